package session

import (
	"strings"
	"testing"
)

// TestLiveDecode: what a decode session says to each line of an engine that lives.
func TestLiveDecode(t *testing.T) {
	s := NewDecode()
	for _, x := range []struct{ line, reply string }{
		{`{"op":"step"}`, `{"error":"op: step before config","kind":"state"}`},
		{`{"op":"config","ranks":3,"kv_capacity":[9000,9000,20000],"speed":[1,1,2],"max_requests":4}`, `{"ok":true}`},
		{`{"op":"add","id":"big","kv":15000}`, `{"id":"big","rank":2}`},
		{`{"op":"add","id":"p1","kv":1010,"prefix":"p","shared":1000,"rank":0}`, `{"id":"p1","rank":0}`},
		{`{"op":"add","id":"p2","kv":1020,"prefix":"p","shared":1000,"among":[0,1]}`, `{"id":"p2","rank":0}`},
		{`{"op":"add","id":"w","kv":500,"waiting":true,"rank":1}`, `{"id":"w","rank":1}`},
		{`{"op":"step"}`, `{"ok":true}`},
		{`{"op":"grow","tokens":{"p1":5,"p2":6}}`, `{"ok":true}`},
		{`{"op":"grow","id":"w","tokens":1}`, `"kind":"state"`},
		{`{"op":"grow","tokens":{"p1":5,"p1":6}}`, `"kind":"value"`},
		{`{"op":"grow","id":"p1","tokens":{"p1":5}}`, `"kind":"value"`},
		{`{"op":"grow","tokens":{"p1":5,"nobody":6}}`, `"kind":"unknown","index":1`},
		{`{"op":"stats"}`, `{"ranks":[{"requests":2,"kv":1043,`},
		{`{"op":"start","id":"w"}`, `{"ok":true}`},
		{`{"op":"start","id":"w"}`, `"kind":"state"`},
		{`{"op":"move","id":"w","to":2}`, `{"ok":true}`},
		{`{"op":"move","id":"w","to":3}`, `"kind":"value"`},
		{`{"op":"sync","rank":1,"requests":[{"id":"w","kv":501},{"id":"new","kv":7}]}`, `{"entered":["new"],"gone":[],"moved":["w"]}`},
		{`{"op":"sync","rank":1,"requests":[{"id":"x","kv":501},{"id":"x","kv":7}]}`, `"kind":"known","index":1`},
		{`{"op":"sync","rank":1,"requests":[{"id":"new","kv":8}]}`, `{"entered":[],"gone":["w"],"moved":[]}`},
		{`{"op":"done","id":"w"}`, `"kind":"unknown"`},
		{`{"op":"cancel","id":"p1"}`, `{"ok":true}`},
		{`{"op":"cancel","id":"p1"}`, `"kind":"unknown"`},
		{`{"op":"quote","id":"q","kv":100}`, `{"rank":`},
		{`{"op":"quote","id":"q","kv":100,"rank":1}`, `{"rank":1,"seconds":`},
		{`{"op":"quote","id":"big","kv":100}`, `"kind":"known"`},
		{`{"op":"add","id":"huge","kv":20000}`, `"kind":"never"`},
		{`{"op":"add","id":"q","kv":10000,"among":[0,1]}`, `"kind":"never"`},
		{`{"op":"add","id":"q","kv":1,"among":[3]}`, `"kind":"value"`},
		{`{"op":"add","id":"q","kv":1,"prefix":"p"}`, `"kind":"value"`},
		{`{"op":"batch","requests":[{"id":"a","kv":1},{"id":"b","kv":1,"shared":1}]}`, `"kind":"value","index":1`},
		{`{"op":"batch","requests":[{"id":"a","kv":1},{"id":"b","kv":90000}]}`, `"kind":"never","index":1`},
		{`{"op":"batch","requests":[{"id":"a","kv":1},{"id":"a","kv":2}]}`, `"kind":"known","index":1`},
		{`{"op":"dead","rank":0}`, `{"requests":[{"id":"p2","kv":1027,"generated":7}]}`},
		{`{"op":"add","id":"q","kv":1,"rank":0}`, `"kind":"state"`},
		{`{"op":"resize","ranks":1}`, `"kind":"state"`},
		{`{"op":"resize","ranks":4}`, `{"ok":true}`},
		{`{"op":"grow","id":"new","tokens":9500}`, `{"ok":true}`},
		{`{"op":"rebalance","max_moves":0}`, `{"moves":[]`},
		{`{"op":"rebalance","max_moves":1}`, `{"moves":[{"id":"new","from":1,"to":3,`},
		{`{"op":"add","id":"last","kv":8000,"rank":1}`, `{"id":"last","rank":1}`},
		{`{"op":"grow","id":"last","tokens":13000}`, `{"ok":true}`},
		{`{"op":"rebalance","max_moves":1}`, `"evict":["last"]`},
		{`{"op":"config","ranks":3}`, `"kind":"state"`},
		{`{"op":"load","state":{"unit":"AAAA","ids":[]}}`, `"kind":"value"`},
		{`{"op":"add","id":"","kv":1}`, `"kind":"value"`},
	} {
		if got := string(s.Answer(nil, []byte(x.line))); !strings.Contains(got, x.reply) {
			t.Fatalf("%s\n%s, want %s", x.line, got, x.reply)
		}
	}
}

// TestEndedTwice: a request that ended in the latest step comes back by its name when its
// rank dies, also where another of that name has come and gone since, and from a state
// that was saved between.
func TestEndedTwice(t *testing.T) {
	s := NewPrefill()
	do := func(line, want string) string {
		t.Helper()
		got := string(s.Answer(nil, []byte(line)))
		if !strings.Contains(got, want) {
			t.Fatalf("%s\n%s, want %s", line, got, want)
		}
		return got
	}
	reload := func() {
		t.Helper()
		state := do(`{"op":"snapshot"}`, `{"state":`)
		s = NewPrefill()
		do(`{"op":"load",`+state[1:], `{"ok":true}`)
	}
	do(`{"op":"config","ranks":2}`, "ok")
	do(`{"op":"enqueue","id":"a","tokens":75,"among":[1]}`, "ok")
	do(`{"op":"step"}`, `"id":"a","rank":1,"tokens":75,"last":true`)
	do(`{"op":"add","id":"a","tokens":9,"among":[0]}`, `"rank":0`)
	reload()
	do(`{"op":"done","id":"a"}`, "ok")
	reload()
	do(`{"op":"dead","rank":1}`, `{"requests":[{"id":"a","tokens":75,"computed":75,"queued":true}]}`)
	do(`{"op":"step"}`, `{"chunks":[]}`)
	do(`{"op":"restore","rank":1}`, "ok")
	do(`{"op":"step"}`, `"id":"a","rank":1,"tokens":75,"last":true`)
	// While the second is known it stands for both, wherever it dies.
	do(`{"op":"add","id":"a","tokens":9,"among":[0]}`, `"rank":0`)
	do(`{"op":"dead","rank":0}`, `{"requests":[{"id":"a","tokens":9,"computed":0,"queued":false}]}`)
	do(`{"op":"dead","rank":1}`, `{"requests":[{"id":"a","tokens":75,"computed":75,"queued":true}]}`)
	do(`{"op":"cancel","id":"a"}`, "ok")
}

// TestOneLanguage: both sessions answer the same mistake with the same words, which say
// what to do.
func TestOneLanguage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"op":"drain","rank":1}`, `{"error":"rank: 1 is dead: restore it first","kind":"state"}`},
		{`{"op":"add","id":"b","SIZE":5,"rank":1}`, `{"error":"rank: 1 is dead: restore it first","kind":"state"}`},
		{`{"op":"move","id":"a","to":1}`, `{"error":"to: 1 is dead: restore it first","kind":"state"}`},
		{`{"op":"sync","rank":1,"requests":[]}`, `{"error":"rank: 1 is dead: restore it first","kind":"state"}`},
		{`{"op":"drain","rank":3}`, `{"error":"rank: 3 is not from 0 to 2","kind":"value"}`},
		{`{"op":"restore","rank":3}`, `{"error":"rank: 3 is not from 0 to 2","kind":"value"}`},
		{`{"op":"dead","rank":3}`, `{"error":"rank: 3 is not from 0 to 2","kind":"value"}`},
		{`{"op":"add","id":"b","SIZE":5,"among":[]}`, `{"error":"among: no rank may take it","kind":"never"}`},
		{`{"op":"resize","ranks":2}`, `{"error":"ranks: rank 2, which would vanish, holds 1 requests","kind":"state"}`},
	} {
		for size, s := range map[string]*Session{"kv": NewDecode(), "tokens": NewPrefill()} {
			say(t, s, `{"op":"config","ranks":3}`)
			say(t, s, `{"op":"add","id":"a","%s":100,"rank":2}`, size)
			say(t, s, `{"op":"dead","rank":1}`)
			if got := string(s.Answer(nil, []byte(strings.Replace(c.line, "SIZE", size, 1)))); got != c.want {
				t.Errorf("%s with %s: %s, want %s", c.line, size, got, c.want)
			}
		}
	}
}
