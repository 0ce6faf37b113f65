package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// TestSchedule: every prompt that arrives is computed to its end.
func TestSchedule(t *testing.T) {
	var out bytes.Buffer
	if err := schedule(&out, prefill.Config{Ranks: 2, MaxTokens: 8192}, [][]int64{{12000, 300, 500}, {}, {700, 6000}}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "last true"); n != 5 {
		t.Errorf("%d of 5 prompts have ended:\n%s", n, out.String())
	}
}

func TestScheduleRefusesABadUnit(t *testing.T) {
	if err := schedule(&bytes.Buffer{}, prefill.Config{}, nil); err == nil {
		t.Error("a unit without ranks was taken")
	}
}
