package answer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/moelb/moelb/cmd/moelb/internal/answer"
)

type inner struct {
	X float64 `json:"x"`
}

type marshals struct{ err error }

func (m marshals) MarshalJSON() ([]byte, error) { return []byte(`{"own":1}`), m.err }

type sample struct {
	inner
	Text    string    `json:"text"`
	Yes     bool      `json:"yes"`
	Left    *int      `json:"left,omitempty"`
	Unknown *int      `json:"unknown"`
	Figures []float64 `json:"figures"`
	Rows    [][]int   `json:"rows" lines:""`
	Open    []inner   `json:"open" lines:"open"`
	Deep    [][][]int `json:"deep"`
	Own     marshals  `json:"own"`
	hidden  int
}

// The same as encoding/json says, but for the lines, and null where that fails.
func TestJSON(t *testing.T) {
	s := sample{inner: inner{.25}, Text: `a "quote"`, Yes: true, Figures: []float64{.1, 1e21, 3}, Rows: [][]int{{1, 2}, {}}, Open: []inner{{1}, {2}}, Deep: [][][]int{{{1}}}, hidden: 1}
	text, err := answer.JSON(&s)
	if err != nil {
		t.Fatal(err)
	}
	const rows = "\"rows\":[\n[1,2],\n[]\n],\"open\":[\n{\"x\":1},\n{\"x\":2}],\"deep\""
	if !strings.Contains(string(text), rows) || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("%s", text)
	}
	want, err := json.Marshal(&s)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	if got := compact.String(); got != string(want) {
		t.Errorf("%s\nencoding/json says %s", got, want)
	}
	s.Figures = []float64{math.NaN(), math.Inf(-1)}
	if text, _ = answer.JSON(s); !strings.Contains(string(text), `"figures":[null,null]`) {
		t.Errorf("%s", text)
	}
	named := struct {
		Stages answer.Members `json:"stages"`
	}{answer.Members{{"b", 1}, {"a", inner{2}}}}
	if text, _ = answer.JSON(named); string(text) != `{"stages":{"b":1,"a":{"x":2}}}`+"\n" {
		t.Errorf("%s", text)
	}
	s.Own.err = errors.New("no")
	if _, err := answer.JSON(s); err == nil {
		t.Error("a member's error is lost")
	}
}
