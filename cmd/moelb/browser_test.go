package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moelb/moelb/internal/long"
)

// browser is a headless Chromium, "" where there is none.
func browser() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// look runs in a page and says what is wrong with it.
const look = `<script>
const wrong = [];
addEventListener("error", e => wrong.push("error: " + e.message));
addEventListener("load", () => setTimeout(() => {
  const say = (bad, text) => { if (bad) wrong.push(text); };
  const root = document.documentElement, seen = e => e.getClientRects().length > 0 && !e.closest("[aria-hidden]");
  say(root.scrollWidth > innerWidth, "wider than the screen: " + root.scrollWidth);
  const luminance = c => { const v = c.match(/[\d.]+/g).slice(0, 3).map(x => { x /= 255; return x <= .04045 ? x / 12.92 : Math.pow((x + .055) / 1.055, 2.4); }); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const contrast = (a, b) => { const x = luminance(a), y = luminance(b); return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
  const card = getComputedStyle(document.querySelector("section")).backgroundColor;
  for (const e of document.querySelectorAll("section p, section h2, section td, section th, section svg text:not(.in), summary")) {
    const s = getComputedStyle(e), color = e.tagName == "text" ? s.fill : s.color;
    if (seen(e) && contrast(color, card) < 4.5) { say(true, e.tagName + " of contrast " + contrast(color, card).toFixed(1)); break; }
  }
  for (const e of document.querySelectorAll("section svg text")) if (seen(e) && parseFloat(getComputedStyle(e).fontSize) < 9.5) { say(true, "small text in pictures"); break; }
  let pictures = 0, told = 0;
  for (const p of document.querySelectorAll("section svg, section canvas")) {
    if (!seen(p)) continue;
    pictures++;
    const box = p.getBoundingClientRect(), d = document.getElementById(p.id + "Figures");
    say(p.getAttribute("role") != "img" || !p.getAttribute("aria-label"), p.id + " has no name");
    say(!d || d.querySelectorAll("tbody tr").length == 0, p.id + " has no table behind it");
    say(box.width < 100 || box.height < 20, p.id + " is " + box.width + " x " + box.height);
    if (p.tagName == "svg") {
      const last = Math.max(...[...p.querySelectorAll("rect, text")].map(e => e.getBoundingClientRect().right));
      say(last > box.right + 1.5, p.id + " is cut by " + (last - box.right).toFixed(0));
    }
    const spots = [.3, .5, .7].flatMap(x => [.2, .5, .8].map(y => [x, y]));
    const shown = spots.some(([x, y]) => {
      const at = { clientX: box.left + box.width * x, clientY: box.top + box.height * y, pointerType: "touch", bubbles: true }, mark = [...p.querySelectorAll("[data-t]")].pop() || p;
      mark.dispatchEvent(new PointerEvent("pointerdown", at));
      return getComputedStyle(document.getElementById("tip")).display != "none";
    });
    told += shown;
    document.body.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
    say(getComputedStyle(document.getElementById("tip")).display != "none", "a touch elsewhere leaves what " + p.id + " says");
  }
  say(pictures < 4, pictures + " pictures");
  say(told < pictures - 2, told + " of " + pictures + " pictures answer a finger"); // bars say all in words
  for (const e of document.querySelectorAll(".scroll")) say(e.tabIndex != 0 || e.getAttribute("role") != "region" || !e.getAttribute("aria-label"), "a part that scrolls cannot be reached");
  for (const e of document.querySelectorAll("th")) if (e.textContent && e.scope != "col") { say(true, "a column without scope: " + e.textContent); break; }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  say((luminance(getComputedStyle(document.body).backgroundColor) < .2) != dark, "not the colours that are preferred");
  parent.postMessage({ width: innerWidth, dark, pictures, wrong }, "*");
}, 100));
</script>`

// TestPages opens every page in a browser, on a phone, a tablet and a screen, by day
// and by night: nothing is cut or too pale, every picture has a name and a table
// behind it, and answers a finger.
func TestPages(t *testing.T) {
	long.Only(t)
	chromium := browser()
	if chromium == "" {
		t.Skip("no Chromium in the path")
	}
	dir := t.TempDir()
	trace := &strings.Builder{}
	for i := range 400 {
		fmt.Fprintf(trace, `{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": [%d, %d, %d]}`+"\n", 20*i, 1100+i%300, 20+i%50, i%7, 100+i%40, 1000+i)
	}
	frames := &strings.Builder{}
	previous := `{"version":1,"loads":[[600,560,120,120,20,10,10,10],[5,5,5,5,5,5,5,5],[40,3,70,1,1,1,1,9]],"num_replicas":16,"num_gpus":8,"num_nodes":2,"locality":"none","previous":{"physical_to_logical_map":[[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7],[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7],[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7]]}}`
	pages := []struct {
		name, input string
		args        []string
	}{
		{"plan", "", []string{"plan", "--example"}},
		{"plan with moves", previous, []string{"plan", "--model", "deepseek-v3"}},
		{"replay", lines(wandering(24, 12, 32)), []string{"replay", "--gpus", "8", "--replicas", "48", "--model", "deepseek-v3"}},
		{"simulate", "", []string{"simulate", "--trace", write(t, "trace.jsonl", trace.String()), "--seconds", "10"}},
	}
	sizes := []int{390, 768, 1280}
	for i, p := range pages {
		file := filepath.Join(dir, fmt.Sprint(i, ".html"))
		call(t, p.input, append(p.args, "--html", file)...).want(t, exitDone)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page := strings.Replace(string(b), "<head>", "<head>"+look, 1)
		for _, width := range sizes {
			fmt.Fprintf(frames, `<iframe name="%s at %d" style="width:%dpx;height:900px;border:0" srcdoc="%s"></iframe>`, p.name, width, width, html.EscapeString(page))
		}
	}
	all := filepath.Join(dir, "all.html")
	gather := `<!doctype html><meta charset="utf-8"><pre id="said"></pre><script>const said = {};
addEventListener("message", e => { for (const f of document.querySelectorAll("iframe")) if (f.contentWindow == e.source) said[f.name] = e.data; document.getElementById("said").textContent = JSON.stringify(said); });</script>`
	if err := os.WriteFile(all, []byte(gather+frames.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for scheme, dark := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir="+filepath.Join(dir, fmt.Sprint("user", scheme)), "--virtual-time-budget=20000", fmt.Sprint("--blink-settings=preferredColorScheme=", scheme), "--dump-dom", "file://"+all).Output()
		if err != nil {
			t.Fatalf("%s: %v", chromium, err)
		}
		m := regexp.MustCompile(`(?s)<pre id="said">(.*?)</pre>`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s printed no page: %.300s", chromium, out)
		}
		var said map[string]struct {
			Width, Pictures int
			Dark            bool
			Wrong           []string
		}
		if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &said); err != nil {
			t.Fatalf("%v: %.300s", err, m[1])
		}
		if len(said) != len(pages)*len(sizes) {
			t.Errorf("%d of %d pages were drawn", len(said), len(pages)*len(sizes))
		}
		for name, page := range said {
			if page.Dark != dark || len(page.Wrong) > 0 {
				t.Errorf("%s, dark %v: %s", name, page.Dark, strings.Join(page.Wrong, "; "))
			}
		}
	}
}
