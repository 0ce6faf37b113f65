package track

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// What a Pairs counted is what counts of all tokens are as routes, whatever the
// scale, and fades.
func TestPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const layers, experts = 2, 7
	p, err := NewPairs(layers, experts)
	if err != nil {
		t.Fatal(err)
	}
	naive := make([][][]int64, layers)
	for l := range naive {
		naive[l] = make([][]int64, experts)
		for e := range naive[l] {
			naive[l][e] = make([]int64, experts)
		}
	}
	for range 64 {
		l := rng.IntN(layers)
		var token []uint16
		for _, e := range rng.Perm(experts)[:3] {
			token = append(token, uint16(e))
		}
		if err := p.Add(l, token); err != nil {
			t.Fatal(err)
		}
		for _, a := range token {
			for _, b := range token {
				if a != b {
					naive[l][a][b] += 1 << 30 // above the scale, as that of Pairs is
				}
			}
		}
	}
	want, err := placement.Pairs(naive)
	if err != nil {
		t.Fatal(err)
	}
	got := p.Routes()
	if err := got.Validate(layers, experts); err != nil {
		t.Fatal(err)
	}
	for l := range layers {
		if !slices.Equal(got.IDs[l], want.IDs[l]) || !slices.Equal(got.Weights[l], want.Weights[l]) {
			t.Errorf("layer %d: %v %v, want %v %v", l, got.IDs[l], got.Weights[l], want.IDs[l], want.Weights[l])
		}
	}
	if err := p.Fade(0); err != nil || len(p.Routes().IDs[0]) != 0 {
		t.Errorf("all that fades leaves %v, %v", p.Routes().IDs, err)
	}
	for _, bad := range []struct {
		layer int
		token []uint16
	}{{-1, nil}, {layers, nil}, {0, []uint16{1, experts}}, {0, []uint16{1, 2, 1}}} {
		if err := p.Add(bad.layer, bad.token); err == nil {
			t.Errorf("%+v is counted", bad)
		}
	}
	if len(p.Routes().IDs[0]) != 0 {
		t.Error("a bad token is counted in part")
	}
	if p.Fade(1.5) == nil || p.Fade(-1) == nil {
		t.Error("faded by anything")
	}
	for _, shape := range [][2]int{{0, 4}, {4, 0}, {placement.MaxLayers, placement.MaxExperts}} {
		if _, err := NewPairs(shape[0], shape[1]); err == nil {
			t.Errorf("%v is tracked", shape)
		}
	}
	token := []uint16{0, 3, 5}
	if n := testing.AllocsPerRun(100, func() { _ = p.Add(0, token) }); n != 0 {
		t.Errorf("a token takes %v allocations", n)
	}
}

// Pairs that are written and read go on as if nothing had happened, and what is no
// such file changes nothing.
func TestPairsJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	p, err := NewPairs(2, 6)
	if err != nil {
		t.Fatal(err)
	}
	add := func(p *Pairs, token []uint16) {
		if err := p.Add(1, token); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		n := rng.Perm(6)
		add(p, []uint16{uint16(n[0]), uint16(n[1]), uint16(n[2])})
	}
	if err := p.Fade(1. / 3); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var read Pairs
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Pairs{p, &read} {
		add(x, []uint16{5, 0, 3})
	}
	if !reflect.DeepEqual(p, &read) {
		t.Errorf("%v, read %v", p, read)
	}
	for _, bad := range []string{
		`{}`, `{"version":2,"experts":2,"counts":[[1]]}`, `{"version":1,"experts":2,"counts":[]}`, `{"version":1,"experts":0,"counts":[[]]}`,
		`{"version":1,"experts":3,"counts":[[1]]}`, `{"version":1,"experts":2,"counts":[[-1]]}`, `{"version":1,"experts":2,"counts":[[1]],"more":1}`,
		`{"version":1,"experts":1000000000,"counts":[[1]]}`, `[]`, `{"version":1,"experts":2,"counts":[["1"]]}`,
	} {
		was := read
		if err := json.Unmarshal([]byte(bad), &read); err == nil || !reflect.DeepEqual(was, read) {
			t.Errorf("%s: read, or half so", bad)
		}
	}
}
