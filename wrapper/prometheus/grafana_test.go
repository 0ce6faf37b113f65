package prometheus_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/moelb/moelb/wrapper/prometheus"
)

var (
	metric   = regexp.MustCompile(`\bmoelb_\w+`)
	selector = regexp.MustCompile(`(moelb_\w+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`(\w+)(=~|=)"([^"]*)"`)
	desc     = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)
)

// labels returns the metrics that there are, and each one's labels.
func labels(t *testing.T) map[string][]string {
	t.Helper()
	ch := make(chan *client.Desc, 100)
	prometheus.New(prometheus.Options{PerRank: true}).Describe(ch)
	close(ch)
	all := map[string][]string{}
	for d := range ch {
		m := desc.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%v is not as expected", d)
		}
		all[m[1]] = append(strings.Split(m[2], ","), "job", "instance")
	}
	return all
}

// check demands that an expression speaks of metrics, labels and values that exist.
func check(t *testing.T, known map[string][]string, expr string) {
	t.Helper()
	names := metric.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: is of no metric of ours", expr)
	}
	for _, n := range names {
		if known[n] == nil {
			t.Errorf("%s: there is no %s", expr, n)
		}
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(known[s[1]], m[1]) {
				t.Errorf("%s: %s has no label %s", expr, s[1], m[1])
			}
			values := map[string][]string{
				"balancer": {string(prometheus.Prefill), string(prometheus.Decode), string(prometheus.Experts)},
				"measure":  {"tokens", "attention", "kv", "requests", "mean", "max"},
			}[m[1]]
			for _, v := range strings.Split(m[3], "|") {
				if values != nil && !slices.Contains(values, v) {
					t.Errorf("%s: no %s is %q", expr, m[1], v)
				}
			}
		}
	}
	for _, pair := range [...]string{"()", "{}", "[]"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			t.Errorf("%s: %s are not in pairs", expr, pair)
		}
	}
}

// TestDashboard: the dashboard shows every metric, and none that there is not.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID                 int
			Title, Description string
			GridPos            struct{ X, Y, W, H int }
			Targets            []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	known, shown := labels(t), map[string]bool{"moelb_balancedness": true} // the reciprocal of what is
	taken := map[[2]int]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d says too little", p.ID)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if taken[[2]int{x, y}] || x >= 24 {
					t.Fatalf("panel %q lies on another or outside", p.Title)
				}
				taken[[2]int{x, y}] = true
			}
		}
		for _, target := range p.Targets {
			check(t, known, target.Expr)
			for _, n := range metric.FindAllString(target.Expr, -1) {
				shown[n] = true
			}
		}
	}
	for n := range known {
		if !shown[n] {
			t.Errorf("%s is not shown", n)
		}
	}
	for _, v := range d.Templating.List {
		for _, n := range metric.FindAllString(v.Query, -1) {
			if known[n] == nil {
				t.Errorf("variable %s: there is no %s", v.Name, n)
			}
		}
	}
}

// TestAlerts: every alert is of metrics that exist, waits before it fires, and says
// what is wrong and what to do.
func TestAlerts(t *testing.T) {
	data, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	known := labels(t)
	alerts := strings.Split(string(data), "  - alert: ")[1:]
	if len(alerts) < 3 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		name, _, _ := strings.Cut(a, "\n")
		field := func(key string) string {
			_, rest, ok := strings.Cut(a, key+": ")
			if !ok {
				t.Errorf("%s has no %s", name, key)
			}
			value, _, _ := strings.Cut(rest, "\n")
			return value
		}
		check(t, known, field("    expr"))
		field("    for")
		field("summary")
		field("description")
		if s := field("    labels"); s != "{severity: page}" && s != "{severity: ticket}" {
			t.Errorf("%s: labels %s", name, s)
		}
	}
}
