package ledger

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/moelb/moelb/decode"
)

// TestHeldNames: a request that is held keeps its name in the balancers, whether it is
// placed with the others or, where these spoil that, alone.
func TestHeldNames(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests []decode.Request
		units    []string // of the candidates of each
		placed   int
	}{
		{"together", []decode.Request{{KV: 10}, {KV: 20}, {KV: 30}}, []string{"", "", ""}, 3},
		{"one is bad", []decode.Request{{KV: 10}, {KV: -1}, {KV: 30}}, []string{"", "", ""}, 2},
		{"of two units", []decode.Request{{KV: 10}, {KV: 20}, {KV: 30}}, []string{"a", "b", "b"}, 3},
	} {
		d, err := NewDecode(decode.Config{}, 0, Config{})
		if err != nil {
			t.Fatal(err)
		}
		d.Hold(time.Second, func(time.Duration, func()) {})
		done := make(chan struct{})
		for i, r := range c.requests {
			go func() {
				d.Await(context.Background(), i, r, []Candidate{{Name: Name{Name: fmt.Sprint(c.units[i], "0")}, Unit: c.units[i]}})
				done <- struct{}{}
			}()
			for d.Waiting() <= i {
				time.Sleep(time.Millisecond)
			}
		}
		d.Flush()
		var names []uint64
		for i := range c.requests {
			<-done
			if h := d.book.find(i); h != nil {
				names = append(names, h.id)
			}
		}
		slices.Sort(names)
		if len(names) != c.placed || names[0] != 1 || names[len(names)-1] != 3 {
			t.Errorf("%s: placed under the names %v", c.name, names)
		}
	}
}
