package main

/*
#define MOELB_NO_PROTOTYPES
#include "moelb.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/moelb/moelb/internal/session"
	"github.com/moelb/moelb/placement"
)

// talk is a session that threads share.
type talk struct {
	mu    sync.Mutex
	s     *session.Session
	reply []byte // to the last line, which C may not have had room for
}

var talks handles[*talk]

//export moelb_session_open
func moelb_session_open(kind C.int32_t, handle *C.moelb_handle, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		if handle == nil {
			return missing("session")
		}
		t := &talk{}
		switch kind {
		case C.MOELB_PREFILL:
			t.s = session.NewPrefill()
		case C.MOELB_DECODE:
			t.s = session.NewDecode()
		default:
			return bad(placement.ErrValue, "kind", "%d is unknown", kind)
		}
		*handle = C.moelb_handle(talks.add(t))
		return nil
	})
}

//export moelb_session_line
func moelb_session_line(handle C.moelb_handle, line *C.char, lineSize C.size_t, reply *C.char, replySize C.size_t, replyLength *C.size_t, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		t, err := talking(handle)
		if err != nil {
			return err
		}
		if line == nil {
			return missing("line")
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		// A longer line is refused by its length.
		n := min(lineSize, session.MaxLine+1)
		t.reply = t.reply[:0]
		if t.reply, err = t.s.Do(t.reply, unsafe.Slice((*byte)(unsafe.Pointer(line)), int(n))); err != nil {
			return err
		}
		return t.hand(reply, replySize, replyLength)
	})
}

//export moelb_session_reply
func moelb_session_reply(handle C.moelb_handle, reply *C.char, replySize C.size_t, replyLength *C.size_t, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		t, err := talking(handle)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.hand(reply, replySize, replyLength)
	})
}

//export moelb_session_close
func moelb_session_close(handle C.moelb_handle, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		if !talks.release(uint64(handle)) {
			return noSession(handle)
		}
		return nil
	})
}

func talking(handle C.moelb_handle) (*talk, error) {
	t, ok := talks.get(uint64(handle))
	if !ok {
		return nil, noSession(handle)
	}
	return t, nil
}

func noSession(handle C.moelb_handle) error {
	return fmt.Errorf("%w %d is not an open session", errHandle, handle)
}

// hand writes the reply and its NUL where the caller has room for both.
func (t *talk) hand(reply *C.char, room C.size_t, length *C.size_t) error {
	n := C.size_t(len(t.reply))
	if length != nil {
		*length = n
	}
	if reply == nil {
		return nil
	}
	if room <= n {
		return fmt.Errorf("%w: it takes %d bytes with its NUL, and %d are given; moelb_session_reply has it still", errRoom, n+1, room)
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(reply)), int(n)+1)
	b[copy(b, t.reply)] = 0
	return nil
}
