package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"testing"
)

// TestRun: the ranks are even in every window, and so are the experts after every
// plan, the first of which finds them uneven.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out); err != nil {
		t.Fatal(err)
	}
	ranks := regexp.MustCompile(`(?m)^window \d: (\d+) requests arrived, \d+ run; max/mean over the ranks ([\d.]+) of KV, ([\d.]+) of requests$`).FindAllStringSubmatch(out.String(), -1)
	experts := regexp.MustCompile(`(?m)^  experts of \w+: +imbalance ([\d.]+) as they were, ([\d.]+) after (\d+) moves$`).FindAllStringSubmatch(out.String(), -1)
	if len(ranks) != windows || len(experts) != 2*windows {
		t.Fatalf("%d windows and %d plans:\n%s", len(ranks), len(experts), out.String())
	}
	number := func(text string) float64 {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for i, r := range ranks {
		if r[1] != fmt.Sprint((i+1)*rounds*arrivals) || number(r[2]) > 1.25 || number(r[3]) > 1.15 {
			t.Error(r[0])
		}
	}
	for i, e := range experts {
		if number(e[1]) <= number(e[2]) || number(e[2]) > 1.0205 || e[3] == "0" || i < 2 && number(e[1]) < 1.5 {
			t.Error(e[0])
		}
	}
}
