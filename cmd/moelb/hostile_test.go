package main

import (
	"compress/gzip"
	"encoding/json"
	"strings"
	"testing"
)

// TestHostile: bad input is refused with exit 1 and one line that says what and
// where, nothing on standard output, fast.
func TestHostile(t *testing.T) {
	// with is a good problem with one field replaced or added.
	with := func(field, value string) string {
		fields := []string{`"version":1`, `"loads":[[4,3,2,1]]`, `"num_replicas":6`, `"num_gpus":2`}
		for i, f := range fields {
			if strings.HasPrefix(f, `"`+field+`":`) {
				fields = append(fields[:i], fields[i+1:]...)
				break
			}
		}
		if value != "" {
			fields = append(fields, `"`+field+`":`+value)
		}
		return "{" + strings.Join(fields, ",") + "}"
	}
	previous := func(rows, more string) string {
		return strings.TrimSuffix(with("previous", `{"physical_to_logical_map":`+rows+`}`), "}") + more + "}"
	}
	good := with("num_gpus", "2")
	deep := strings.Repeat("[", 200_000)
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "empty"},
		{"white space", " \n\t ", "empty"},
		{"a word", "hello", ""},
		{"a number", "42", ""},
		{"a string", `"loads"`, ""},
		{"null", "null", ""},
		{"an empty list", "[]", ""},
		{"an empty object", "{}", "version: missing"},
		{"NUL", "\x00\x00\x00", ""},
		{"not UTF-8", "{\"\xff\xfe\":1}", "unknown field"},
		{"UTF-16", "{\x00\"\x00", `"\x00" is not JSON`},
		{"truncated", good[:len(good)-5], "ends"},
		{"truncated in a number", `{"version":1,"loads":[[1,2`, "loads: layer 0"},
		{"truncated in a string", `{"version":1,"policy":"opti`, "policy: the input ends within a string"},
		{"truncated in a name", `{"ver`, "ends within a field's name"},
		{"truncated after a name", `{"version"`, "version"},
		{"truncated after a comma", `{"version":1,`, "ends here"},
		{"comma at the end", `{"version":1,}`, "field's name"},
		{"two commas", `{"version":1,,"loads":[[1]]}`, "field's name"},
		{"no comma", `{"version":1 "loads":[[1]]}`, `","`},
		{"no colon", `{"version" 1}`, "version"},
		{"a bare name", `{version:1}`, "field's name"},
		{"quotes of another kind", `{'version':1}`, "field's name"},
		{"a comment", `{"version":1 /* one */}`, ""},
		{"an object after the end", good + good, "after its end"},
		{"garbage after the end", good + " x", `"x"`},
		{"a bracket after the end", good + "}", "after its end"},
		{"version 99", with("version", "99"), "version: 99"},
		{"version missing", with("version", ""), "version: missing"},
		{"version a string", with("version", `"1"`), `version: "1" is a string`},
		{"an unknown field", with("num_gpu", "2"), "num_gpu: unknown field"},
		{"a field of another case", with("Num_GPUs", "2"), "Num_GPUs: unknown field"},
		{"a name of a megabyte", `{"` + strings.Repeat("x", 1<<20) + `":1}`, "too long"},
		{"a name with a control character", "{\"a\nb\":1}", "control character"},
		{"a name with an escape", "{\"a\\nb\":1}", "unknown field"},
		{"a field twice", strings.TrimSuffix(good, "}") + `,"num_gpus":3}`, "num_gpus: given twice"},
		{"loads twice", strings.TrimSuffix(good, "}") + `,"loads":[[1]]}`, "loads: given twice"},
		{"loads missing", with("loads", ""), "loads: missing"},
		{"loads null", with("loads", "null"), "loads: null"},
		{"loads a number", with("loads", "7"), "loads: 7 is a number"},
		{"loads an object", with("loads", `{"0":[1]}`), "loads: an object"},
		{"no layers", with("loads", "[]"), "loads: no layers"},
		{"no experts", with("loads", "[[]]"), "loads: layer 0: no experts"},
		{"no experts later", with("loads", "[[1,2],[]]"), "loads: layer 1: no experts"},
		{"one level", with("loads", "[4,3,2,1]"), "loads: layer 0: 4 is a number"},
		{"four levels", with("loads", "[[[[4,3,2,1]]]]"), "window 0: layer 0, index 0: a list"},
		{"levels mixed", with("loads", "[[1,[2]]]"), "loads: layer 0, index 1: a list"},
		{"levels mixed between layers", with("loads", "[[1,2],3]"), "loads: layer 1: 3 is a number"},
		{"no windows' layers", with("loads", "[[[1,2,3,4]],[]]"), "window 1"},
		{"windows of different layers", with("loads", "[[[4,3,2,1]],[[4,3,2,1],[1,1,1,1]]]"), "loads, window 1: 2 layers"},
		{"windows of different experts", with("loads", "[[[4,3,2,1]],[[4,3,2]]]"), "loads, window 1: 1 layers of 3 experts"},
		{"ragged", with("loads", "[[1,2],[1]]"), "loads: layer 1: 1 experts, but layer 0 has 2"},
		{"a negative load", with("loads", "[[4,-3,2,1]]"), "loads: layer 0, index 1: -3 is negative"},
		{"a load that is NaN", with("loads", "[[4,NaN,2,1]]"), "loads: layer 0, index 1: NaN is not a finite number"},
		{"an infinite load", with("loads", "[[4,Infinity,2,1]]"), "loads: layer 0, index 1: Infinity"},
		{"a load of minus infinity", with("loads", "[[4,3,2,-Infinity]]"), "loads: layer 0, index 3: -Infinity"},
		{"a load too large to be a number", with("loads", "[[4,3,1e999,1]]"), "loads: layer 0, index 2: 1e999 is too large"},
		{"a load too large to add up", with("loads", "[[1e308,1e308,1e308,1e308]]"), "loads: layer 0, index 0: 1e+308"},
		{"a load of a thousand digits", with("loads", "[["+strings.Repeat("9", 1000)+",3,2,1]]"), "loads: layer 0, index 0"},
		{"a load of a million digits", with("loads", "[["+strings.Repeat("9", 1_000_000)+",3,2,1]]"), "loads: layer 0, index 0"},
		{"a load that is a string", with("loads", `[[4,3,2,"4"]]`), `loads: layer 0, index 3: "4" is a string: a number ≥ 0 is needed`},
		{"a load that is null", with("loads", "[[null,3,2,1]]"), "loads: layer 0, index 0: null"},
		{"a load that is true", with("loads", "[[true,3,2,1]]"), "loads: layer 0, index 0: true"},
		{"a load that is an object", with("loads", "[[{},3,2,1]]"), "loads: layer 0, index 0: an object"},
		{"a load with a leading zero", with("loads", "[[04,3,2,1]]"), `"04" is not a number`},
		{"a load with a plus", with("loads", "[[+4,3,2,1]]"), "loads: layer 0, index 0"},
		{"a load in hex", with("loads", "[[0x4,3,2,1]]"), `"0x4" is not a number`},
		{"a load with underscores", with("loads", "[[1_000,3,2,1]]"), `"1_000" is not a number`},
		{"a load without digits", with("loads", "[[-,3,2,1]]"), `"-" is not a number`},
		{"a load that ends in a point", with("loads", "[[4.,3,2,1]]"), `"4." is not a number`},
		{"a load that starts with a point", with("loads", "[[.5,3,2,1]]"), "loads: layer 0, index 0"},
		{"a load without exponent", with("loads", "[[4e,3,2,1]]"), `"4e" is not a number`},
		{"commas in a row", with("loads", "[[4,,2,1]]"), "loads: layer 0, index 1"},
		{"a comma at a row's end", with("loads", "[[4,3,2,1,]]"), "loads: layer 0, index 4"},
		{"no comma in a row", with("loads", "[[4 3,2,1]]"), "loads: layer 0, index 1"},
		{"too many layers", with("loads", "["+strings.TrimSuffix(strings.Repeat("[1],", 4097), ",")+"]"), "loads: more than 4096 layers"},
		{"too many experts", with("loads", "[["+strings.TrimSuffix(strings.Repeat("1,", 65537), ",")+"]]"), "loads: layer 0: more than 65536 experts"},
		{"deep nesting", deep, ""},
		{"deep objects", strings.Repeat(`{"a":`, 100_000), "a: unknown field"},
		{"deep nesting in loads", `{"version":1,"loads":` + deep, "loads"},
		{"deep nesting in a number", `{"version":1,"num_gpus":` + deep, "num_gpus: a list"},
		{"deep nesting in previous", `{"version":1,"previous":` + deep, "previous: a list"},
		{"replicas missing", with("num_replicas", ""), "num_replicas: missing"},
		{"too few replicas", with("num_replicas", "3"), "num_replicas: 3 replicas for 4 experts"},
		{"no replicas", with("num_replicas", "0"), "num_replicas: 0"},
		{"negative replicas", with("num_replicas", "-6"), "num_replicas: -6"},
		{"fractional replicas", with("num_replicas", "6.5"), "num_replicas: 6.5 is not an integer"},
		{"nearly an integer", with("num_replicas", "6.0000000001"), "num_replicas: 6.0000000001"},
		{"replicas a string", with("num_replicas", `"6"`), `num_replicas: "6" is a string`},
		{"replicas null", with("num_replicas", "null"), "num_replicas: null"},
		{"replicas true", with("num_replicas", "true"), "num_replicas: true"},
		{"replicas in a list", with("num_replicas", "[6]"), "num_replicas: a list"},
		{"10^15 replicas", with("num_replicas", "1000000000000000"), "num_replicas: 1000000000000000: at most"},
		{"2^32 replicas and a few", with("num_replicas", "4294967302"), "num_replicas: 4294967302: at most"},
		{"2^64 replicas and a few", with("num_replicas", "18446744073709551622"), "num_replicas"},
		{"1e400 replicas", with("num_replicas", "1e400"), "num_replicas: 1e400 is too large"},
		{"GPUs missing", with("num_gpus", ""), "num_gpus: missing"},
		{"no GPUs", with("num_gpus", "0"), "num_gpus: 0: at least 1"},
		{"negative GPUs", with("num_gpus", "-2"), "num_gpus: -2: at least 1"},
		{"10^12 GPUs", with("num_gpus", "1000000000000"), "num_gpus: 1000000000000: at most"},
		{"no nodes", with("num_nodes", "0"), "num_nodes: 0: at least 1"},
		{"GPUs not over nodes", with("num_nodes", "3"), "num_nodes: 2 GPUs cannot be shared evenly by 3 nodes"},
		{"nodes that do not add up", with("gpus_per_node", "[1,2]"), "gpus_per_node: index 1: 2: the nodes add up to more than the 2 GPUs"},
		{"a node of no GPU", with("gpus_per_node", "[2,0]"), "gpus_per_node: index 1: 0"},
		{"nodes as a number", with("gpus_per_node", "2"), "gpus_per_node: 2 is a number"},
		{"two kinds of nodes", with("gpus_per_node", `[1,1],"num_nodes":2`), "gpus_per_node: beside num_nodes"},
		{"domains that do not add up", with("domains", "[1]"), "domains: they add up to 1 GPUs, but there are 2"},
		{"domains that do not divide", with("domains", "3"), "domains: 2 GPUs cannot be shared evenly by 3 domains"},
		{"no domains", with("domains", "0"), "domains: 0: at least 1"},
		{"one domain", with("two_domains", "true"), "two_domains: 1 domain in service"},
		{"two domains perhaps", with("two_domains", `"yes"`), `two_domains: "yes" is a string: true or false is needed`},
		{"two domains, truly", with("two_domains", `trueish`), `two_domains: "trueish" is not JSON`},
		{"everywhere out of range", with("everywhere", "[4]"), "everywhere: index 0: expert 4: there are 4"},
		{"everywhere twice", with("everywhere", "[1,1]"), "everywhere: index 1: expert 1 stands twice"},
		{"weights of other layers", with("layer_weights", "[1,1]"), "layer_weights: 2 entries, but loads has 1 layers"},
		{"weights of nothing", with("layer_weights", "[0]"), "layer_weights: no layer has any"},
		{"a negative weight", with("layer_weights", "[-1]"), "layer_weights: index 0: -1 is negative"},
		{"everywhere a half", with("everywhere", "[1.5]"), "everywhere: index 0: 1.5"},
		{"no groups", with("num_groups", "0"), "num_groups: 0: at least 1"},
		{"negative groups", with("num_groups", "-1"), "num_groups: -1"},
		{"an unknown policy", with("policy", `"best"`), `policy: "best" is unknown`},
		{"a policy that is a number", with("policy", "1"), "policy: 1 is a number"},
		{"a policy that is null", with("policy", "null"), "policy: null"},
		{"an unknown locality", with("locality", `"here"`), `locality: "here" is unknown`},
		{"an unknown dispatch", with("dispatch", `"odd"`), `dispatch: "odd" is unknown`},
		{"groups that do not divide", with("locality", `"groups","num_groups":3`), "num_groups"},
		{"replicas off nodes without groups", with("off_node_replicas", `8,"locality":"none"`), "off_node_replicas: 8"},
		{"replicas off nodes, no groups by default", with("off_node_replicas", `8,"num_groups":3,"num_nodes":2`), "off_node_replicas: 8"},
		{"negative off-node replicas", with("off_node_replicas", "-1"), "off_node_replicas: -1"},
		{"speeds too few", with("gpu_speed", "[1]"), "gpu_speed: 1 speeds for 2 GPUs"},
		{"speeds too many", with("gpu_speed", "[1,1,1]"), "gpu_speed: 3 speeds"},
		{"no speeds", with("gpu_speed", "[]"), "gpu_speed: 0 speeds"},
		{"a speed for all", with("gpu_speed", "1"), "gpu_speed: 1 is a number"},
		{"a negative speed", with("gpu_speed", "[1,-1]"), "gpu_speed: index 1: -1 is negative"},
		{"a speed that is NaN", with("gpu_speed", "[1,NaN]"), "gpu_speed: index 1: NaN"},
		{"a speed that is a string", with("gpu_speed", `[1,"1"]`), `gpu_speed: index 1: "1" is a string`},
		{"a speed next to nothing", with("gpu_speed", "[1,1e-300]"), "gpu_speed: index 1"},
		{"all GPUs out of service", with("gpu_speed", "[0,0]"), "gpu_speed: all 2 GPUs"},
		{"no room on what is left", with("gpu_speed", "[1,0]"), "gpu_speed: 4 experts do not fit"},
		{"previous null", with("previous", "null"), "previous: null"},
		{"previous a list", with("previous", "[[0,1,2,3,0,1]]"), "previous: a list"},
		{"previous empty", with("previous", "{}"), "previous: physical_to_logical_map is missing"},
		{"previous unknown field", with("previous", `{"map":[]}`), `previous: "map" is an unknown field`},
		{"previous without layers", previous("[]", ""), "previous.physical_to_logical_map: no layers"},
		{"previous of another shape", previous("[[0,1]]", ""), "previous.physical_to_logical_map: layer 0: 2 slots, but num_replicas is 6"},
		{"previous with more layers", previous("[[0,1,2,3,0,1],[0,1,2,3,0,1]]", ""), "previous.physical_to_logical_map: 2 layers, but loads has 1"},
		{"previous ragged", previous("[[0,1,2,3,0,1],[0]]", ""), "previous.physical_to_logical_map: layer 1: 1 slots"},
		{"previous out of range", previous("[[0,1,2,3,4,99]]", ""), "previous.physical_to_logical_map: layer 0, index 4: expert 4"},
		{"previous below -1", previous("[[0,1,2,3,-2,0]]", ""), "previous.physical_to_logical_map: layer 0, index 4: -2"},
		{"previous fractional", previous("[[0,1,2,3,0.5,0]]", ""), "previous.physical_to_logical_map: layer 0, index 4: 0.5"},
		{"previous huge", previous("[[0,1,2,3,1e300,0]]", ""), "previous.physical_to_logical_map: layer 0, index 4"},
		{"previous on no GPUs", with("previous", `{"num_gpus":0,"physical_to_logical_map":[[0,1,2,3]]}`), "previous.num_gpus: 0"},
		{"previous on too many GPUs", with("previous", `{"num_gpus":1000000,"physical_to_logical_map":[[0,1,2,3]]}`), "previous.num_gpus: 1000000"},
		{"a target below 1", previous("[[0,1,2,3,0,1]]", `,"target":0.5`), "target: 0.5"},
		{"a target of null", previous("[[0,1,2,3,0,1]]", `,"target":null`), "target: null"},
		{"a target without previous", with("target", "1.1"), "target: 1.1: only with previous"},
		{"a target of 0 without previous", with("target", "0"), "target: 0: only with previous"},
		{"a negative number of moves", previous("[[0,1,2,3,0,1]]", `,"max_moves":-1`), "max_moves: -1"},
		{"fractional moves", previous("[[0,1,2,3,0,1]]", `,"max_moves":1.5`), "max_moves: 1.5"},
		{"moves without previous", with("max_moves", "3"), "max_moves: 3: only with previous"},
		{"deepseek indivisible", with("policy", `"deepseek","num_nodes":2,"num_groups":4,"dispatch":"split"`), "dispatch"},
		{"deepseek with previous", previous("[[0,1,2,3,0,1]]", `,"policy":"deepseek"`), "previous: policy deepseek"},
		{"deepseek with speeds", with("policy", `"deepseek","gpu_speed":[1,1]`), "gpu_speed: policy deepseek"},
		{"deepseek with locality", with("policy", `"deepseek","locality":"none"`), `locality: "none": policy deepseek`},
		{"deepseek with off-node replicas", with("policy", `"deepseek","off_node_replicas":2`), "off_node_replicas: 2: policy deepseek"},
		{"deepseek, replicas that GPUs cannot share", strings.Replace(with("policy", `"deepseek"`), `"num_replicas":6`, `"num_replicas":7`, 1), "num_replicas: 7 replicas cannot be shared evenly"},
		{"statistics of nothing", `{"logical_count":[]}`, "standard input"},
		{"statistics of strings", `{"logical_count":[["a"]]}`, "standard input"},
		{"statistics with a negative count", `{"logical_count":[[1,-1]]}`, "standard input"},
		{"gzip of nothing", "\x1f\x8b", "standard input: gzip: "},
		{"gzip of garbage", "\x1f\x8b\x08\x00garbage garbage", "standard input: gzip: "},
		{"gzip that was cut", gzipped(small)[:40], "gzip: cut short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := call(t, c.in, "plan", "-").want(t, exitFailed)
			if !strings.Contains(a.stderr, c.want) {
				t.Errorf("says %q, want %q", a.stderr, c.want)
			}
			if len(a.stderr) > 600 || strings.Contains(a.stderr, "goroutine") {
				t.Errorf("says %.600q", a.stderr)
			}
		})
	}
	for _, path := range []string{"/nonexistent/file.json", t.TempDir()} {
		call(t, "", "plan", path, "--gpus", "2", "--replicas", "6").want(t, exitFailed)
	}
}

// FuzzProblem: no input makes the command panic, or print both a plan and an error.
func FuzzProblem(f *testing.F) {
	f.Add(small)
	f.Add(`{"version":1,"loads":[[[4,3],[2,1]],[[1,1],[2,2]]],"num_replicas":3,"num_gpus":2,"gpu_speed":[1,0.5],"previous":{"physical_to_logical_map":[[0,1,1],[1,0,0]]},"max_moves":2}`)
	f.Add(`{"version":1,"loads":[[4,3,2,1]],"num_replicas":6,"num_gpus":3,"previous":{"num_gpus":2,"physical_to_logical_map":[[0,1,2,3]]},"target":1.5,"max_moves":0}`)
	f.Add(`{"logical_count":[[4,3,2,1]]}`)
	f.Fuzz(func(t *testing.T, in string) {
		// Planning itself is another package's; small ones are cheap enough.
		var p struct {
			Replicas int `json:"num_replicas"`
			GPUs     int `json:"num_gpus"`
		}
		if json.Unmarshal([]byte(in), &p) != nil || len(in) > 500 || p.Replicas > 32 || p.GPUs > 16 {
			return
		}
		args := []string{"plan", "-", "--schedule"}
		if strings.Contains(in, `"previous":`) {
			args = append(args, "--expert-bytes", "1000")
		}
		if a := call(t, in, args...); a.code != exitDone {
			a.want(t, exitFailed)
		} else {
			decode[scheduled](t, a.stdout)
		}
		if a := call(t, in, "plan", "-"); a.code != exitDone {
			a.want(t, exitFailed)
		} else {
			decode[planned](t, a.stdout)
		}
	})
}

func gzipped(text string) string {
	var out strings.Builder
	w := gzip.NewWriter(&out)
	w.Write([]byte(text))
	w.Close()
	return out.String()
}
