package long

import (
	"testing"
)

func TestOnly(t *testing.T) {
	for _, c := range []struct {
		value string
		want  bool
	}{{"", false}, {"0", false}, {"1", !testing.Short()}} {
		t.Setenv("MOELB_LONG", c.value)
		ran := false
		t.Run("MOELB_LONG="+c.value, func(t *testing.T) {
			Only(t)
			ran = true
		})
		if ran != c.want || Tests() != c.want {
			t.Errorf("MOELB_LONG=%q: ran %v, Tests() = %v, want %v", c.value, ran, Tests(), c.want)
		}
	}
}
