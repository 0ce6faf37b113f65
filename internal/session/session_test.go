package session

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// say carries out a line that must succeed.
func say(t *testing.T, s *Session, format string, args ...any) string {
	t.Helper()
	reply, err := s.Do(nil, fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatalf(format+": %v", append(args, err)...)
	}
	return string(reply)
}

// TestDo: replies go behind what dst holds, and a line that fails adds nothing to it.
func TestDo(t *testing.T) {
	for name, s := range map[string]*Session{"prefill": NewPrefill(), "decode": NewDecode()} {
		dst := []byte("before ")
		reply, err := s.Do(dst, []byte(`{"op":"config","ranks":2}`))
		if err != nil || string(reply) != `before {"ok":true}` {
			t.Errorf("%s: %s, %v", name, reply, err)
		}
		const again = `op: config a second time`
		if reply, err = s.Do(dst, []byte(`{"op":"config","ranks":2}`)); err == nil || err.Error() != again || string(reply) != "before " {
			t.Errorf("%s: %s, %v", name, reply, err)
		}
		if reply = s.Answer(dst, []byte(`{"op":"config","ranks":2}`)); string(reply) != `before {"error":"`+again+`","kind":"state"}` {
			t.Errorf("%s: %s", name, reply)
		}
	}
}

// TestKeepsNothing: lines and replies are the caller's again after each call.
func TestKeepsNothing(t *testing.T) {
	s := NewDecode()
	line, reply := make([]byte, 0, 100), make([]byte, 0, 100)
	for i := range 50 {
		for _, text := range []string{`{"op":"config","ranks":3}`, fmt.Sprintf(`{"op":"add","id":"r%d","kv":%d}`, i, 10*i)} {
			line = append(line[:0], text...)
			reply = s.Answer(reply[:0], line)
			clear(line)
			clear(reply)
		}
	}
	for i := range 50 {
		if got := say(t, s, `{"op":"done","id":"r%d"}`, i); got != `{"ok":true}` {
			t.Error(got)
		}
	}
}

// TestErrorsChangeNothing: what fails leaves the whole state as it was, wherever in
// the line it fails.
func TestErrorsChangeNothing(t *testing.T) {
	lines := []string{
		`{"op":"add","id":"z","kv":5,"output":9}`, `{"op":"batch","requests":[{"id":"y","kv":1},{"id":"z","kv":2,"width":3}]}`, `{"op":"step"}`,
		`{"op":"grow","id":"r1","tokens":5}`, `{"op":"done","id":"r1"}`, `{"op":"rebalance","max_moves":3}`, `{"op":"drain","rank":0}`,
		`{"op":"dead","rank":1}`, `{"op":"resize","ranks":9}`, `{"op":"load","state":{"unit":"","ids":["r1"]}}`, `{"op":"batch","requests":[{"id":"y","kv":1},{"id":"r1","kv":2}]}`,
	}
	s := NewDecode()
	say(t, s, `{"op":"config","ranks":3,"kv_capacity":9000}`)
	for i := range 20 {
		say(t, s, `{"op":"add","id":"r%d","kv":%d}`, i, 100*i)
	}
	before := say(t, s, `{"op":"snapshot"}`)
	failed := 0
	for _, line := range lines {
		for end := range line {
			for _, bad := range []string{line[:end], line[:end] + "\x00" + line[end:], line[:end] + "]" + line[end+1:], line[:end] + `,"rank":-1` + line[end:]} {
				if _, err := s.Do(nil, []byte(bad)); err == nil { // the change is within a name
					s = NewDecode()
					say(t, s, `{"op":"load","state":%s`, strings.TrimPrefix(before, `{"state":`))
					continue
				}
				if failed++; say(t, s, `{"op":"snapshot"}`) != before {
					t.Fatalf("%s failed and changed the state", bad)
				}
			}
		}
	}
	if failed < 1500 {
		t.Errorf("only %d lines failed", failed)
	}
}

// TestNamesAreForgotten: what a session holds depends on what runs, not on what ran.
func TestNamesAreForgotten(t *testing.T) {
	d, p := &decodeUnit{names: newNames[decode.ID](0)}, &prefillUnit{names: newNames[prefill.ID](0), late: newNames[prefill.ID](0)}
	for _, s := range []*Session{newSession(d, &d.line), newSession(p, &p.line)} {
		say(t, s, `{"op":"config","ranks":2}`)
	}
	for i := range 1000 {
		say(t, newSession(d, &d.line), `{"op":"add","id":"%d","kv":5}`, i)
		say(t, newSession(d, &d.line), `{"op":"done","id":"%d"}`, i)
		say(t, newSession(p, &p.line), `{"op":"enqueue","id":"%d","tokens":5}`, i)
		say(t, newSession(p, &p.line), `{"op":"step"}`)
	}
	if len(d.ids) != 0 || len(d.at) > 0 || len(p.ids) != 0 || len(p.at) > 0 {
		t.Errorf("decode holds %d names and %d ids, prefill %d and %d", len(d.ids), len(d.at), len(p.ids), len(p.at))
	}
}

// TestErrorsTellNames: an error tells a request by what its caller calls it, so that a
// session that was loaded gives the same one.
func TestErrorsTellNames(t *testing.T) {
	for _, x := range []struct {
		s, loaded   *Session
		line, reply string
	}{
		{NewDecode(), NewDecode(), `{"op":"start","id":"a"}`, `{"error":"id: request \"a\" runs already","kind":"state"}`},
		{NewDecode(), NewDecode(), `{"op":"grow","id":"w","tokens":1}`, `{"error":"id: request \"w\" waits for its KV cache","kind":"state"}`},
		{NewDecode(), NewDecode(), `{"op":"grow","tokens":{"a":1,"w":1}}`, `{"error":"id: index 1: request \"w\" waits for its KV cache","kind":"state","index":1}`},
		{NewPrefill(), NewPrefill(), `{"op":"move","id":"q","to":1}`, `{"error":"id: request \"q\" is in the queue","kind":"state"}`},
	} {
		say(t, x.s, `{"op":"config","ranks":2}`)
		lines := []string{`{"op":"add","id":"gone","kv":1}`, `{"op":"add","id":"a","kv":1}`, `{"op":"add","id":"w","kv":1,"waiting":true}`, `{"op":"add","id":"late","kv":1}`}
		if strings.Contains(x.line, "move") {
			lines = []string{`{"op":"add","id":"gone","tokens":1}`, `{"op":"enqueue","id":"q","tokens":9}`, `{"op":"add","id":"late","tokens":1}`}
		}
		for _, line := range append(lines, `{"op":"done","id":"gone"}`, `{"op":"done","id":"late"}`) {
			say(t, x.s, "%s", line)
		}
		say(t, x.loaded, `{"op":"load","state":%s`, strings.TrimPrefix(say(t, x.s, `{"op":"snapshot"}`), `{"state":`))
		for _, s := range []*Session{x.s, x.loaded} {
			if got := string(s.Answer(nil, []byte(x.line))); got != x.reply {
				t.Errorf("%s: %s, want %s", x.line, got, x.reply)
			}
		}
	}
}

// TestServe: a line that is too long gets an error, and the next its answer; the
// last needs no end.
func TestServe(t *testing.T) {
	long := io.MultiReader(strings.NewReader(`{"op":"config","ranks":2}`+"\n"+`{"op":"add","id":"`), bytes.NewReader(make([]byte, MaxLine)), strings.NewReader("\n\n"+`{"op":"add","id":"a","kv":1}`))
	var out bytes.Buffer
	if err := NewDecode().Serve(bufio.NewReader(long), &out); err != nil {
		t.Fatal(err)
	}
	want := `{"ok":true}
{"error":"the line is longer than 64 MiB","kind":"value"}
{"error":"line: the input ends here: an object is needed","kind":"value"}
{"id":"a","rank":0}
`
	if out.String() != want {
		t.Errorf("got\n%.1000s", out.String())
	}
}

// FuzzSession: no line makes a session panic, and one that fails changes nothing.
func FuzzSession(f *testing.F) {
	f.Add(`{"op":"add","id":"a","kv":5}`, `{"op":"batch","requests":[{"id":"b","kv":1},{"id":"a","kv":9,"width":2}]}`)
	f.Add(`{"op":"grow","id":"r1","tokens":-1}`, `{"op":"load","state":{"unit":"","ids":["a"]}}`)
	f.Add(`{"op":"enqueue","id":"a","tokens":5,"cached":[1,2]}`, `{"op":"step"}`)
	f.Fuzz(func(t *testing.T, first, second string) {
		d, p := NewDecode(), NewPrefill()
		for _, s := range []*Session{d, p} {
			say(t, s, `{"op":"config","ranks":2}`)
		}
		for i := range 3 {
			say(t, d, `{"op":"add","id":"r%d","kv":%d}`, i, i)
			say(t, p, `{"op":"enqueue","id":"r%d","tokens":%d}`, i, 1+i)
		}
		for _, line := range []string{first, second} {
			before := say(t, d, `{"op":"snapshot"}`)
			if _, err := d.Do(nil, []byte(line)); err != nil && say(t, d, `{"op":"snapshot"}`) != before {
				t.Errorf("%q failed (%v) and changed the state", line, err)
			}
			before = say(t, p, `{"op":"stats"}`)
			if _, err := p.Do(nil, []byte(line)); err != nil && say(t, p, `{"op":"stats"}`) != before {
				t.Errorf("%q failed (%v) and changed the state", line, err)
			}
		}
	})
}

// TestAsked: a name has one id however often it is asked for, another name another one,
// and one that others have is passed over.
func TestAsked(t *testing.T) {
	n := newNames[uint64](0)
	a, b := n.asked("a"), n.asked("b")
	if a == b || n.asked("a") != a {
		t.Errorf("ids %d and %d, and then %d", a, b, n.asked("a"))
	}
	n.enter("held", a)
	if got := n.asked("a", map[uint64]string{a + 1: "given"}, nil); got != a+2 {
		t.Errorf("id %d where %d and the next are taken", got, a)
	}
	p := &prefillUnit{names: newNames[prefill.ID](0), late: newNames[prefill.ID](0)}
	p.late.enter("late", prefill.ID(a))
	if got := p.idOf("a", nil); got != prefill.ID(a+1) {
		t.Errorf("id %d where one that ended comes back as %d", got, a)
	}
	if got := p.idOf("late", nil); got != prefill.ID(a) {
		t.Errorf("one that ended as %d comes again as %d", a, got)
	}
}
