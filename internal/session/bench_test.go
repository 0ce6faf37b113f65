package session

import (
	"fmt"
	"testing"
)

// BenchmarkLine carries out lines of a decode session: add, grow and done of a
// request.
func BenchmarkLine(b *testing.B) {
	for name, lines := range map[string][3]string{
		"short": {`{"op":"add","id":"req-%d","kv":5000,"output":300}`, `{"op":"grow","id":"req-%d","tokens":3}`, `{"op":"done","id":"req-%d"}`},
		"among": {`{"op": "add", "id": "req-%d", "kv": 5000, "output": 300, "among": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]}`, `{"op": "grow", "id": "req-%d", "tokens": 3}`, `{"op": "done", "id": "req-%d"}`},
	} {
		b.Run(name, func(b *testing.B) {
			s := NewDecode()
			if _, err := s.Do(nil, []byte(`{"op":"config","ranks":32,"kv_capacity":550000}`)); err != nil {
				b.Fatal(err)
			}
			text := make([][3][]byte, 64)
			for i := range text {
				for k, line := range lines {
					text[i][k] = fmt.Appendf(nil, line, i)
				}
			}
			var reply []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for _, line := range text[i%len(text)] {
					var err error
					if reply, err = s.Do(reply[:0], line); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
