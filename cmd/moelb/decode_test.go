package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// converse runs a session and returns its reply lines.
func converse(t *testing.T, command string, lines ...string) []string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{command, "-"}, strings.NewReader(strings.Join(lines, "\n")), &out, &errs); code != exitDone {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	replies := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(replies) != len(lines) {
		t.Fatalf("%d replies to %d lines: %s", len(replies), len(lines), out.String())
	}
	return replies
}

func TestDecodeSession(t *testing.T) {
	script := [][2]string{
		{`{"op":"add","id":"a","kv":1}`, `{"error":"op: add before config","kind":"state"}`},
		{`{"op":"config","ranks":3,"kv_capacity":100000,"max_requests":4,"cost":{"kv":2.6e-8,"request":1.3e-4,"step":0.02515}}`, `{"ok":true}`},
		{`{"op":"config","ranks":3}`, `{"error":"op: config a second time","kind":"state"}`},
		{`{"kv":5000,"id":"a","op":"add","output":300}`, `{"id":"a","rank":0}`},
		{`{"op":"add","id":"a","kv":5000}`, `{"error":"id: \"a\" is already known","kind":"known"}`},
		{`{"op":"add","id":"b\"é\u00e9","kv":1000}`, `{"id":"b\"éé","rank":1}`},
		{`{"op":"batch","requests":[{"id":"c","kv":10},{"id":"d","kv":3000},{"id":"e","kv":20}]}`, `{"assignments":[{"id":"c","rank":`},
		{`{"op":"batch","requests":[{"id":"f","kv":10},{"id":"f","kv":3000}]}`, `{"error":"requests: index 1: id \"f\" is known","kind":"known","index":1}`},
		{`{"op":"batch","requests":[{"id":"f","kv":10},{"id":"g"}]}`, `{"error":"requests: index 1: kv is missing","kind":"value","index":1}`},
		{`{"op":"step"}`, `{"ok":true}`},
		{`{"op":"grow","id":"a","tokens":3}`, `{"ok":true}`},
		{`{"op":"grow","id":"f","tokens":3}`, `{"error":"id: \"f\" is unknown","kind":"unknown"}`},
		{`{"op":"done","id":"c"}`, `{"ok":true}`},
		{`{"op":"done","id":"c"}`, `{"error":"id: \"c\" is unknown","kind":"unknown"}`},
		{`{"op":"drain","rank":2}`, `{"ok":true}`},
		{`{"op":"drain","rank":3}`, `{"error":"rank: 3 is not from 0 to 2","kind":"value"}`},
		{`{"op":"restore","rank":2}`, `{"ok":true}`},
		{`{"op":"stats"}`, `{"ranks":[{"requests":1,"kv":5004,"kept":296,"serving":true,"capacity":100000,"over":0}`},
		{`{"op":"rebalance","max_moves":0}`, `{"moves":[]}`},
		{`{"op":"add","id":"h"}`, `{"error":"kv: missing","kind":"value"}`},
		{`{"op":"add","id":"h","kv":1,"to":2}`, `{"error":"to: add has no such field","kind":"value"}`},
		{`{"op":"add","id":"h","kv":1,"kvs":2}`, `{"error":"kvs: unknown field","kind":"value"}`},
		{`{"op":"add","id":"h","kv":1.5}`, `{"error":"kv: 1.5 is not an integer","kind":"value"}`},
		{`{"op":"add","id":"h","kv":-1}`, `{"error":"kv: -1: at least 0 is needed","kind":"value"}`},
		{`{"op":"sub"}`, `{"error":"op: \"sub\" is unknown","kind":"value"}`},
		{`{}`, `{"error":"op: missing","kind":"value"}`},
		{``, `{"error":"line: the input ends here: an object is needed","kind":"value"}`},
		{`[]`, `{"error":"line: `},
		{`{"op":"step"} x`, `{"error":"line: `},
		{`{"op":"dead","rank":0}`, `{"requests":[{"id":"a","kv":5004,"output":296,"generated":4}]}`},
		{`{"op":"done","id":"a"}`, `{"error":"id: \"a\" is unknown","kind":"unknown"}`},
		{`{"op":"resize","ranks":1}`, `{"error":"ranks: rank 1, which would vanish, holds `},
		{`{"op":"load","state":{"unit":"xx","ids":[]}}`, `{"error":"state: `},
		{`{"op":"stats"}`, `{"ranks":[{"requests":0,"kv":0,"kept":0,"serving":false,"capacity":100000,"over":0}`},
	}
	var lines []string
	for _, s := range script {
		lines = append(lines, s[0])
	}
	for i, reply := range converse(t, "decode", lines...) {
		if !strings.HasPrefix(reply, script[i][1]) || !json.Valid([]byte(reply)) {
			t.Errorf("%s\nreplied %s\nwant    %s", lines[i], reply, script[i][1])
		}
	}
}

// TestDecodeSessionLoads: a loaded session answers what follows as the saved one.
func TestDecodeSessionLoads(t *testing.T) {
	first := []string{`{"op":"config","ranks":5,"kv_capacity":300000}`}
	for i := range 200 {
		first = append(first, fmt.Sprintf(`{"op":"add","id":"r%d","kv":%d}`, i, 100+i*7919%5000))
		if i%3 == 0 {
			first = append(first, fmt.Sprintf(`{"op":"done","id":"r%d"}`, i/2))
		}
		if i%10 == 0 {
			first = append(first, `{"op":"step"}`)
		}
	}
	var next []string
	for i := range 200 {
		next = append(next, fmt.Sprintf(`{"op":"batch","requests":[{"id":"s%d","kv":%d},{"id":"t%d","kv":%d}]}`, i, 50+i*104729%6000, i, i), fmt.Sprintf(`{"op":"done","id":"s%d"}`, i/2), `{"op":"rebalance","max_moves":1}`, `{"op":"step"}`)
	}
	next = append(next, `{"op":"stats"}`, `{"op":"snapshot"}`)
	replies := converse(t, "decode", append(append(first, `{"op":"snapshot"}`), next...)...)
	state := strings.TrimPrefix(replies[len(first)], `{"state":`)
	loaded := converse(t, "decode", append([]string{`{"op":"load","state":` + state}, next...)...)
	if loaded[0] != `{"ok":true}` {
		t.Fatal(loaded[0])
	}
	for i, reply := range loaded[1:] {
		if want := replies[len(first)+1+i]; reply != want {
			t.Fatalf("%s\nreplied %s\nthe saved session %s", next[i], reply, want)
		}
	}
}

// FuzzDecodeSession: no line makes the session panic, or reply with anything but
// one line of JSON.
func FuzzDecodeSession(f *testing.F) {
	f.Add(`{"op":"add","id":"a","kv":5}` + "\n" + `{"op":"batch","requests":[{"id":"b","kv":1},{"id":"c","kv":9,"width":2}]}` + "\n" + `{"op":"step"}` + "\n" + `{"op":"stats"}`)
	f.Add(`{"op":"grow","id":"a","tokens":-1}` + "\n" + `{"op":"rebalance","max_moves":2}` + "\n" + `{"op":"dead","rank":1}` + "\n" + `{"op":"snapshot"}`)
	f.Add(`{"op":"load","state":{"unit":"","ids":["a"]}}` + "\n" + `{"op":"resize","ranks":9}`)
	f.Fuzz(func(t *testing.T, in string) {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"decode", "-"}, strings.NewReader(`{"op":"config","ranks":4}`+"\n"+in), &out, &errs)
		if code != exitDone {
			t.Fatalf("exit %d: %s", code, errs.String())
		}
		lines := 2 + strings.Count(in, "\n")
		if in == "" || strings.HasSuffix(in, "\n") {
			lines--
		}
		replies := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(replies) != lines {
			t.Fatalf("%d replies to %d lines", len(replies), lines)
		}
		for _, r := range replies {
			if !json.Valid([]byte(r)) {
				t.Fatalf("reply %q", r)
			}
		}
	})
}

// TestSessionNamesItsFile: where a session's file cannot be read on, its replies so far
// stand, and the error names it.
func TestSessionNamesItsFile(t *testing.T) {
	text := gzipped(`{"op":"config","ranks":2}` + "\n" + strings.Repeat(`{"op":"step"}`+"\n", 100))
	path := write(t, "lines.gz", text[:len(text)-8])
	a := call(t, "", "decode", path)
	if a.code != exitFailed || !strings.HasPrefix(a.stderr, "moelb: "+path+": gzip: cut short") || strings.Count(a.stdout, `{"ok":true}`) != 101 {
		t.Errorf("says %q after %d replies", a.stderr, strings.Count(a.stdout, "\n"))
	}
}
