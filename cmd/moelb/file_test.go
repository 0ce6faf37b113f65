package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// left lists what a folder holds.
func left(t *testing.T, dir string) []string {
	t.Helper()
	items, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range items {
		names = append(names, i.Name())
	}
	return names
}

func TestOut(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "plan.json")
	a := call(t, small, "plan", "--out", out).want(t, exitDone)
	if a.stdout != "" {
		t.Errorf("printed %.60q beside --out", a.stdout)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	check(t, decode[planned](t, string(b)), smallLoads, 2)
	if names := left(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	// Bad input leaves the old file as it was.
	call(t, small[:30], "plan", "--out", out).want(t, exitFailed)
	if after, _ := os.ReadFile(out); string(after) != string(b) || len(left(t, dir)) != 1 {
		t.Error("bad input touched the file")
	}
	// So does a page that cannot be written... and nothing is printed then.
	call(t, small, "plan", "--html", filepath.Join(dir, "none", "x.html")).want(t, exitFailed)
	call(t, small, "plan", "--out", dir).want(t, exitFailed)
	if names := left(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// TestOutIsAFile: - is standard output wherever an answer is written, a page never goes
// there, and no file is written twice.
func TestOutIsAFile(t *testing.T) {
	in := write(t, "small.json", small)
	at := write(t, "at.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,2,3,0,1]]}`)
	batch := write(t, "batch.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,2]],"counts":[[10,4,3]]}`)
	schedule := write(t, "schedule.json", call(t, `{"version":1,"loads":[[4,3,2,1]],"num_replicas":6,"num_gpus":2}`, "plan", "-", "--previous", at, "--schedule", "--expert-bytes", "100").want(t, exitDone).stdout)
	t.Chdir(t.TempDir())
	for _, args := range [][]string{{"plan", in}, {"split", batch}, {"apply", "--schedule", schedule, "--placement", at}} {
		plain := call(t, "", args...).want(t, exitDone).stdout
		got := call(t, "", append(args, "--out", "-")...).want(t, exitDone).stdout
		if a, _, _ := strings.Cut(plain, "seconds"); got == "" || !strings.HasPrefix(got, a) {
			t.Errorf("%s --out -: %.80q, want %.80q", args[0], got, plain)
		}
	}
	for _, args := range [][]string{{"plan", in}, {"replay"}, {"simulate"}} {
		says(t, call(t, "", append(args, "--html", "-")...).want(t, exitUsage), "--html: a file name is needed")
	}
	says(t, call(t, "", "plan", in, "--out", "x", "--html", "./x").want(t, exitUsage), "--out x and --html ./x are one file")
	if names := left(t, "."); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestEmptyFlags: a flag that is given an empty value is refused, not left out, but
// where nothing is an answer.
func TestEmptyFlags(t *testing.T) {
	in := write(t, "small.json", small)
	for _, args := range []string{"plan IN --previous", "plan IN --routes", "plan IN --gpu-speed", "plan IN --policy", "plan IN --steps", "plan IN --format", "plan IN --out", "plan IN --html", "size IN --model", "replay --loads", "simulate --trace", "simulate --gpu-file", "estimate --phase", "score --placement", "apply --schedule"} {
		words := append(strings.Fields(strings.ReplaceAll(args, "IN", in)), "")
		says(t, call(t, "", words...).want(t, exitUsage), words[len(words)-2]+": a value is needed")
	}
	for _, flag := range []string{"--domains", "--everywhere", "--gpus-per-node"} {
		call(t, "", "plan", in, flag, "").want(t, exitDone)
	}
}
