package main

/*
#define MOELB_NO_PROTOTYPES
#include "moelb.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/moelb/moelb/placement"
)

var (
	errHandle = errors.New("handle")
	errRoom   = errors.New("reply")
)

// guard runs the body of an exported function: what it returns, or panics with,
// becomes a code and a message.
func guard(message *C.char, size C.size_t, body func() error) (code C.int) {
	defer func() {
		if r := recover(); r != nil {
			code = C.MOELB_INTERNAL
			write(message, size, fmt.Sprintf("internal error: %v", r))
		}
	}()
	err := body()
	if err == nil {
		return C.MOELB_OK
	}
	write(message, size, err.Error())
	switch {
	case errors.Is(err, placement.ErrShape):
		return C.MOELB_SHAPE
	case errors.Is(err, placement.ErrFit):
		return C.MOELB_FIT
	case errors.Is(err, errHandle):
		return C.MOELB_HANDLE
	case errors.Is(err, errRoom):
		return C.MOELB_ROOM
	}
	return C.MOELB_VALUE
}

// write puts text into message as far as it goes, on one line and ended by NUL.
func write(message *C.char, size C.size_t, text string) {
	if message == nil || size == 0 {
		return
	}
	room := int(min(size, 1<<12)) - 1
	if len(text) > room {
		text = strings.ToValidUTF8(text[:room], "")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	b := unsafe.Slice((*byte)(unsafe.Pointer(message)), room+1)
	b[copy(b, text)] = 0
}

// bad is an error about a whole field.
func bad(kind error, field, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: -1, Index: -1, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// missing is the error about a pointer that may not be NULL.
func missing(field string) error { return bad(placement.ErrShape, field, "NULL") }

// sized checks the size that a struct says it has.
func sized(name string, given C.size_t, want uintptr) error {
	if uintptr(given) != want {
		return bad(placement.ErrShape, name, "size %d: this library's struct has %d bytes", given, want)
	}
	return nil
}

// size checks a dimension before anything is computed from it.
func size(field string, n C.int64_t, least, most int) (int, error) {
	if int64(n) < int64(least) || int64(n) > int64(most) {
		return 0, bad(placement.ErrValue, field, "%d: between %d and %d are supported", n, least, most)
	}
	return int(n), nil
}
