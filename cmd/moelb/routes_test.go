package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pairsOfTokens are tokens that choose experts 0 and 1, or 2 and 3.
const pairsOfTokens = `"routes":[[[0,1],[2,3],[1,0],[3,2]]]`

// pairsCounted says the same of pairs.
const pairsCounted = `"pairs":[[[0,2,0,0],[2,0,0,0],[0,0,0,2],[0,0,2,0]]]`

func problemWith(fields ...string) string {
	return `{"version":1,"loads":[[4,4,4,4]],"num_replicas":4,"num_gpus":2,"num_nodes":2,"locality":"none",` + strings.Join(fields, ",") + "}"
}

func TestRoutes(t *testing.T) {
	const apart = `"previous":{"physical_to_logical_map":[[0,2,1,3]]}`
	for _, c := range []struct {
		name, in      string
		nodes, before string
	}{
		{"kept together", problemWith(pairsOfTokens), "1", ""},
		{"from a placement that parts them", problemWith(pairsOfTokens, apart), "1", "2"},
		{"by pairs", problemWith(pairsCounted), "1", ""},
		{"by pairs from a placement that parts them", problemWith(pairsCounted, apart), "1", "2"},
		{"which may not change", problemWith(pairsOfTokens, apart, `"max_moves":0`), "2", "2"},
	} {
		a := call(t, c.in, "plan", "-")
		if a.code != 0 {
			t.Fatalf("%s: %s", c.name, a.stderr)
		}
		var p struct {
			Report struct {
				Mean   json.Number `json:"nodes_per_token_mean"`
				Before struct {
					Mean json.Number `json:"nodes_per_token_mean"`
				} `json:"before"`
				Layers []struct {
					Nodes json.Number `json:"nodes_per_token"`
				} `json:"layers"`
				Traffic struct {
					Without struct {
						Imbalance json.Number `json:"imbalance_mean"`
					} `json:"without_routes"`
				} `json:"traffic"`
			} `json:"report"`
		}
		if err := json.Unmarshal([]byte(a.stdout), &p); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if r := p.Report; string(r.Mean) != c.nodes || string(r.Layers[0].Nodes) != c.nodes || string(r.Before.Mean) != c.before || string(r.Traffic.Without.Imbalance) != "1" {
			t.Errorf("%s: %+v, want %s nodes a token after %q", c.name, r, c.nodes, c.before)
		}
	}
	if a, b := call(t, problemWith(`"policy":"optimal"`), "plan", "-"), "nodes_per_token"; strings.Contains(a.stdout, b) {
		t.Errorf("%s without routes", b)
	}
}

func TestRoutesRefused(t *testing.T) {
	for _, c := range []struct{ fields, want string }{
		{`"routes":[]`, "routes: no tokens"},
		{`"routes":[[]]`, "routes: no tokens"},
		{`"routes":{}`, "routes: an object"},
		{`"routes":[3]`, "routes: layer 0: 3 is a number"},
		{`"routes":[[3]]`, "routes: layer 0, index 0: 3 is a number"},
		{`"routes":[[[]]]`, "routes: layer 0, index 0: a token without experts"},
		{`"routes":[[[0,1],[2]]]`, "routes: layer 0, index 1: 1 experts, but the first token has 2"},
		{`"routes":[[[0,-1]]]`, "routes: layer 0, index 0: -1 is no expert's number"},
		{`"routes":[[[0,1.5]]]`, "routes: layer 0, index 0: 1.5 is no expert's number"},
		{`"routes":[[[0,1e9]]]`, "routes: layer 0, index 0: 1000000000 is no expert's number"},
		{`"routes":[[[0,4]]]`, "routes: layer 0, index 0: expert 4: there are 4"},
		{`"routes":[[[0,0]]]`, "routes: layer 0, index 0: expert 0 twice"},
		{`"routes":[[[0,1]],[[0,1]]]`, "routes: 2 layers, but loads have 1"},
		{`"routes":[[[0` + strings.Repeat(",1", 40) + `]]]`, "routes: layer 0, index 0: more than 32"},
		{`"pairs":[]`, "pairs: no counts"},
		{`"pairs":[[[0,1],[1]]]`, "pairs: layer 0, index 1: 1 counts for 2 experts"},
		{`"pairs":[[[0,1],[2,0]]]`, "pairs: layer 0, index 1: not symmetric"},
		{`"pairs":[[[0,-1],[-1,0]]]`, "pairs: -1: a whole number"},
		{`"pairs":[[[0,1],[1,0]],[[0]]]`, "pairs: layer 1: 1 rows, but layer 0 has 2"},
		{`"pairs":[[[0,1],[1,0]],[[0,1],[1,0]]]`, "routes: 2 layers, but loads have 1"},
		{`"pairs":[[[0,1],[1,0]]],` + pairsOfTokens, "pairs: beside routes"},
		{`"traffic_copies":"node"`, "traffic_copies: node: only with routes"},
		{`"traffic_copies":"both",` + pairsOfTokens, "traffic_copies: \"both\""},
		{`"traffic_copies":1,` + pairsOfTokens, "traffic_copies: 1 is a number"},
		{`"traffic_slack":0.1`, "traffic_slack: 0.1: only with routes"},
		{`"traffic_slack":-1,` + pairsOfTokens, "traffic_slack: -1 is negative"},
		{`"policy":"deepseek","locality":"auto",` + pairsOfTokens, ""},
	} {
		in := problemWith(c.fields)
		if strings.Contains(c.fields, "deepseek") {
			in = strings.Replace(in, `"locality":"none",`, "", 1)
			c.want = "routes: policy deepseek"
		}
		a := call(t, in, "plan", "-")
		if a.code != 1 || a.stdout != "" || !strings.Contains(a.stderr, c.want) || strings.Count(a.stderr, "\n") != 1 {
			t.Errorf("%.60s: exit %d, %q, want %q", c.fields, a.code, a.stderr, c.want)
		}
	}
}

func TestRoutesFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(file, []byte("token,L1\n0,0 1\n1,2 3\n2,1 0\n3,3 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shape := []string{"--gpus", "2", "--nodes", "2", "--replicas", "4"}
	a := call(t, "", append([]string{"plan", "--example", "--routes", file, "--json"}, shape...)...)
	a.want(t, exitUsage)
	a = call(t, "", append([]string{"plan", "--routes", file, "--json"}, shape...)...).want(t, exitDone)
	if !strings.Contains(a.stdout, `"nodes_per_token_mean":1,`) {
		t.Error(a.stdout)
	}
	a = call(t, `[[2,2,1,1]]`, append([]string{"plan", "-", "--routes", file, "--traffic-slack", "0.5", "--table"}, shape...)...).want(t, exitDone)
	for _, want := range []string{"nodes a token visits", "without routes"} {
		if !strings.Contains(a.stdout+a.stderr, want) {
			t.Errorf("no %q in\n%s%s", want, a.stdout, a.stderr)
		}
	}
	call(t, `[[2,2,1,1]]`, append([]string{"plan", "-", "--traffic-slack", "0.5"}, shape...)...).want(t, exitFailed)
	a = call(t, `[[2,2,1,1]]`, append([]string{"plan", "-", "--routes", file + "x"}, shape...)...).want(t, exitFailed)
	if !strings.Contains(a.stderr, "tokens.csvx") {
		t.Error(a.stderr)
	}
}

func TestRoutesInPieces(t *testing.T) {
	// Every prefix of a good problem is refused, and none panics.
	good := problemWith(pairsOfTokens)
	for n := range len(good) {
		if a := call(t, good[:n], "plan", "-"); a.code != 1 {
			t.Fatalf("%d bytes of %d: exit %d, %s", n, len(good), a.code, fmt.Sprint(a.stderr))
		}
	}
}

// Each way to send copies is planned for as asked, and told with what it was before.
func TestTrafficCopies(t *testing.T) {
	// Expert 0 is hot and chosen with 1, of 2 nodes of one GPU; one slot is spare.
	const in = `{"version":1,"loads":[[8,2,3,3]],"num_replicas":6,"num_gpus":2,"num_nodes":2,"locality":"none","traffic_slack":2,"routes":[[[0,1],[0,1],[0,2],[0,3],[2,3]]],"traffic_copies":"%s"}`
	for name, want := range map[string]float64{"node": .5, "expert": .5} {
		page := filepath.Join(t.TempDir(), "page.html")
		a := call(t, fmt.Sprintf(in, name), "plan", "-", "--json", "--html", page).want(t, exitDone)
		var p struct {
			Report struct {
				Traffic struct {
					Copies string
					GPUs   struct{ Plan float64 }     `json:"gpus_per_token_mean"`
					Sent   struct{ Plan float64 }     `json:"copies_off_node_mean"`
					Pairs  struct{ Plan [][]float64 } `json:"copies_between_nodes"`
				}
			}
		}
		if err := json.Unmarshal([]byte(a.stdout), &p); err != nil {
			t.Fatal(err)
		}
		x := p.Report.Traffic
		if m := x.Pairs.Plan; x.Copies != name || x.Sent.Plan > want || len(m) != 2 || math.Abs(m[0][1]+m[1][0]-2*x.Sent.Plan) > 1e-9 || x.GPUs.Plan < 1 {
			t.Errorf("a copy a %s: %+v", name, x)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "From node to node") || !strings.Contains(string(text), "one for each "+name) {
			t.Error("the page draws no traffic")
		}
	}
}

// The example's tokens are known wherever a file of tokens is asked for.
func TestExampleRoutes(t *testing.T) {
	at := write(t, "plan.json", call(t, "", "plan", "--routes", "example", "--workers", "1").want(t, exitDone).stdout)
	a := call(t, "", "score", "--placement", at, "--nodes", "4", "--routes", "example", "--json").want(t, exitDone)
	type scored struct {
		Mean  float64 `json:"imbalance_mean"`
		Nodes float64 `json:"nodes_per_token_mean"`
	}
	plan, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if was, is := decode[struct{ Report scored }](t, string(plan)).Report, decode[scored](t, a.stdout); math.Abs(was.Mean-is.Mean) > 1e-9 || math.Abs(was.Nodes-is.Nodes) > 1e-9 {
		t.Errorf("planned %+v, scored %+v", was, is)
	}
	call(t, "", "estimate", "--phase", "prefill", "--model", "deepseek-v2-lite", "--gpus", "8", "--placement", at, "--routes", "example").want(t, exitDone)
}
