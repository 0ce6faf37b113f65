package simulate

import (
	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/answer"
)

// estimateJSON is the contract's answer to moelb estimate.
type estimateJSON struct {
	Version          int            `json:"version"`
	Phase            string         `json:"phase"`
	Model            string         `json:"model"`
	GPU              string         `json:"gpu"`
	Overlap          string         `json:"overlap"`
	Nodes            int            `json:"nodes"`
	GPUs             int            `json:"gpus"`
	Slots            int            `json:"slots_per_gpu"`
	StepSeconds      float64        `json:"step_seconds"`
	TokensPerNode    float64        `json:"tokens_per_second_per_node"`
	TokensPerRequest float64        `json:"tokens_per_second_per_request"`
	InputPerNode     float64        `json:"input_tokens_per_second_per_node"`
	USDPerMillion    float64        `json:"usd_per_million_tokens"`
	USDPerHour       float64        `json:"usd_per_gpu_hour"`
	NodesPerToken    *float64       `json:"nodes_per_token,omitempty"`
	GPUsPerToken     *float64       `json:"gpus_per_token,omitempty"`
	CopiesOffNode    *float64       `json:"copies_off_node,omitempty"`
	Experts          float64        `json:"imbalance_experts"`
	LayerSeconds     float64        `json:"layer_seconds"`
	KVNeed           int64          `json:"kv_tokens_per_gpu"`
	KVRoom           int64          `json:"kv_room_per_gpu"`
	Stages           answer.Members `json:"stages"`
	Factors          []factorJSON   `json:"factors"`
}

type stageJSON struct {
	Seconds float64 `json:"seconds"`
	Times   int     `json:"times"`
}

type factorJSON struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Source string  `json:"source"`
	Fitted *string `json:"fitted_to,omitempty"`
}

func (f *estimateFlags) json(u *cost.Unit, e *cost.Estimate) ([]byte, error) {
	a := estimateJSON{
		Version: 1, Phase: u.Phase.String(), Model: u.Model.Name, GPU: u.GPU.Name, Overlap: u.Overlap.String(), Nodes: u.Nodes, GPUs: u.Ranks(), Slots: u.SlotsEach(),
		StepSeconds: e.StepSeconds, TokensPerNode: e.TokensPerNode, TokensPerRequest: e.TokensPerRequest, InputPerNode: e.InputPerNode,
		USDPerMillion: e.USDPerMillion, USDPerHour: u.GPU.USDHour, NodesPerToken: known(u.NodesPerToken), GPUsPerToken: known(u.GPUsPerToken), CopiesOffNode: known(u.CopiesOffNode), Experts: f.batch.Experts,
		LayerSeconds: e.LayerSeconds, KVNeed: e.KVNeed, KVRoom: e.KVRoom,
	}
	for _, s := range e.Stages {
		a.Stages = append(a.Stages, answer.Member{Name: s.Name, Value: stageJSON{s.Seconds, s.Count}})
	}
	for _, x := range u.Factors.List(u.Phase) {
		row := factorJSON{Name: x.Name, Value: x.Value, Unit: x.Unit, Source: x.Source}
		if x.Fitted != "" && active(x) {
			row.Fitted = &x.Fitted
		}
		a.Factors = append(a.Factors, row)
	}
	return answer.JSON(&a)
}

// known is nil where nothing is.
func known(x float64) *float64 {
	if x == 0 {
		return nil
	}
	return &x
}

// studyJSON is the contract's answer to moelb simulate.
type studyJSON struct {
	Version      int       `json:"version"`
	Workload     string    `json:"workload"`
	GPU          string    `json:"gpu"`
	PrefillUnits int       `json:"prefill_units"`
	DecodeUnits  int       `json:"decode_units"`
	Rate         float64   `json:"requests_per_second"`
	Load         float64   `json:"load"`
	MeanInput    float64   `json:"mean_input"`
	MeanOutput   float64   `json:"mean_output"`
	Hit          float64   `json:"hit"`
	Policies     []rowJSON `json:"policies" lines:"open"`
}

// rowJSON is one choice of balancers; latencies are null where it is unstable.
type rowJSON struct {
	Label           string        `json:"label"`
	Prefill         string        `json:"prefill"`
	Decode          string        `json:"decode"`
	Experts         string        `json:"experts"`
	TokensPerSecond float64       `json:"tokens_per_second"`
	InputPerSecond  float64       `json:"input_tokens_per_second"`
	TTFT50          *float64      `json:"ttft_p50"`
	TTFT99          *float64      `json:"ttft_p99"`
	TPOT50          *float64      `json:"tpot_p50"`
	TPOT99          *float64      `json:"tpot_p99"`
	Unstable        bool          `json:"unstable"`
	Carries         float64       `json:"carries_requests_per_second"`
	LeftOut         int64         `json:"left_out"`
	Idle            float64       `json:"idle"`
	PrefillIdle     float64       `json:"prefill_idle"`
	DecodeIdle      float64       `json:"decode_idle"`
	Requests        int64         `json:"requests"`
	InputTokens     int64         `json:"input_tokens"`
	OutputTokens    int64         `json:"output_tokens"`
	Evictions       int64         `json:"evictions"`
	Failures        int64         `json:"failures"`
	Returned        int64         `json:"returned"`
	AgainTokens     int64         `json:"tokens_prefilled_again"`
	PeakInFlight    int64         `json:"peak_in_flight"`
	NodeSeconds     float64       `json:"node_seconds"`
	PrefillCapacity float64       `json:"prefill_unit_requests_per_second"`
	DecodeCapacity  float64       `json:"decode_unit_requests_per_second"`
	NodesPer1000    float64       `json:"nodes_per_1000_requests_per_second"`
	USDPerMillion   float64       `json:"usd_per_million_tokens"`
	Imbalance       imbalanceJSON `json:"imbalance"`
	Moves           int64         `json:"expert_moves"`
	MoveSeconds     float64       `json:"expert_move_seconds"`
}

type imbalanceJSON struct {
	Pairs          float64 `json:"pairs"`
	Tokens         float64 `json:"tokens"`
	KV             float64 `json:"kv"`
	Requests       float64 `json:"requests"`
	PrefillExperts float64 `json:"prefill_experts"`
	DecodeExperts  float64 `json:"decode_experts"`
}

func (s *simulated) json() ([]byte, error) {
	a := studyJSON{
		Version: 1, Workload: s.Traffic, GPU: s.config.Decode.GPU.Name, PrefillUnits: s.Fleet.Prefill, DecodeUnits: s.Fleet.Decode,
		Rate: s.Rate, Load: s.Load, MeanInput: s.MeanInput, MeanOutput: s.MeanOutput, Hit: s.HitRate,
	}
	for _, r := range s.Rows {
		row := rowJSON{
			Label: r.Label, Prefill: r.Policy.Prefill.Name, Decode: r.Policy.Decode.Name, Experts: r.Policy.Experts.String(),
			TokensPerSecond: r.TokensPerSecond, InputPerSecond: r.InputPerSecond, Unstable: r.Unstable, Carries: r.Carries, LeftOut: r.LeftOut,
			Idle: r.Idle, PrefillIdle: r.PrefillIdle, DecodeIdle: r.DecodeIdle, Requests: r.Requests, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
			Failures: r.Failures, Returned: r.Returned, AgainTokens: r.AgainTokens,
			Evictions: r.Evictions, PeakInFlight: r.PeakInFlight, NodeSeconds: r.NodeSeconds, PrefillCapacity: r.PrefillCapacity, DecodeCapacity: r.DecodeCapacity,
			NodesPer1000: r.NodesPerThousand, USDPerMillion: r.USDPerMillion,
			Imbalance: imbalanceJSON{r.PairsImbalance, r.TokensImbalance, r.KVImbalance, r.RequestsImbalance, r.PrefillExperts, r.DecodeExperts},
			Moves:     r.Moves, MoveSeconds: r.MoveSeconds,
		}
		if !r.Unstable {
			row.TTFT50, row.TTFT99, row.TPOT50, row.TPOT99 = &r.TTFT50, &r.TTFT99, &r.TPOT50, &r.TPOT99
		}
		a.Policies = append(a.Policies, row)
	}
	return answer.JSON(&a)
}

// comparedJSON is the answer to moelb estimate --published.
type comparedJSON struct {
	Version int          `json:"version"`
	Median  float64      `json:"median_error"`
	Worst   float64      `json:"worst_error"`
	Systems []systemJSON `json:"systems" lines:"open"`
}

type systemJSON struct {
	Name        string  `json:"name"`
	Conditions  string  `json:"conditions"`
	Source      string  `json:"source"`
	Model       string  `json:"model"`
	GPU         string  `json:"gpu"`
	Phase       string  `json:"phase"`
	GPUs        int     `json:"gpus"`
	Published   float64 `json:"published_tokens_per_second_per_gpu"`
	Estimated   float64 `json:"estimated_tokens_per_second_per_gpu"`
	Error       float64 `json:"error"`
	Unexplained float64 `json:"unexplained"`
	Standing    string  `json:"standing"`
}

func comparisonJSON(all []cost.Compared, median, worst float64) ([]byte, error) {
	a := comparedJSON{Version: 1, Median: median, Worst: worst}
	for _, c := range all {
		a.Systems = append(a.Systems, systemJSON{
			Name: c.Name, Conditions: c.Conditions, Source: c.Source, Model: c.Unit.Model.Name, GPU: c.Unit.GPU.Name, Phase: c.Unit.Phase.String(), GPUs: c.Unit.Ranks(),
			Published: c.PerGPU, Estimated: c.Got, Error: c.Error, Unexplained: 1 / (1 + c.Error), Standing: standing(&c),
		})
	}
	return answer.JSON(&a)
}

// fleetsJSON is the answer to moelb simulate --slo-ttft or --slo-tpot.
type fleetsJSON struct {
	Version    int     `json:"version"`
	Rate       float64 `json:"requests_per_second"`
	TTFT       float64 `json:"slo_ttft"`
	TPOT       float64 `json:"slo_tpot"`
	Percentile float64 `json:"slo_percentile"`
	Fleets     []any   `json:"fleets" lines:"open"` // fleetJSON or refusedJSON
}

type refusedJSON struct {
	GPU   string `json:"gpu"`
	Error string `json:"error"`
}

type fleetJSON struct {
	GPU              string     `json:"gpu"`
	PrefillUnits     int        `json:"prefill_units"`
	DecodeUnits      int        `json:"decode_units"`
	PrefillTP        int        `json:"prefill_tp"`
	GPUs             int        `json:"gpus"`
	PrefillPerDecode float64    `json:"prefill_per_decode"`
	USDPerHour       float64    `json:"usd_per_gpu_hour"`
	USDPerMillion    float64    `json:"usd_per_million_tokens"`
	Fleet            trialJSON  `json:"fleet"`
	LessPrefill      *trialJSON `json:"one_prefill_unit_less,omitempty"`
	LessDecode       *trialJSON `json:"one_decode_unit_less,omitempty"`
}

type trialJSON struct {
	PrefillUnits int      `json:"prefill_units"`
	DecodeUnits  int      `json:"decode_units"`
	PrefillTP    int      `json:"prefill_tp"`
	Holds        bool     `json:"holds"`
	Unstable     bool     `json:"unstable"`
	Carries      *float64 `json:"carries_requests_per_second,omitempty"`
	TTFT         *float64 `json:"ttft,omitempty"`
	TPOT         *float64 `json:"tpot,omitempty"`
	Goodput      *float64 `json:"goodput_requests_per_second,omitempty"`
}

func (f *simulateFlags) sizingJSON(all []sized, a simulate.Aim) ([]byte, error) {
	out := fleetsJSON{Version: 1, Rate: a.Rate, TTFT: a.TTFT, TPOT: a.TPOT, Percentile: 100 * a.Percentile}
	for _, x := range all {
		if x.err != nil {
			out.Fleets = append(out.Fleets, refusedJSON{x.gpu.Name, x.err.Error()})
			continue
		}
		row := fleetJSON{
			GPU: x.gpu.Name, PrefillUnits: x.Fleet.Prefill, DecodeUnits: x.Fleet.Decode, PrefillTP: x.PrefillTP, GPUs: x.GPUs,
			PrefillPerDecode: float64(x.Fleet.Prefill) / float64(x.Fleet.Decode), USDPerHour: x.price, USDPerMillion: x.USDPerMillion, Fleet: *trial(&x.Trial),
		}
		if x.LessPrefill.Fleet.Prefill > 0 {
			row.LessPrefill = trial(&x.LessPrefill)
		}
		if x.LessDecode.Fleet.Prefill > 0 {
			row.LessDecode = trial(&x.LessDecode)
		}
		out.Fleets = append(out.Fleets, row)
	}
	return answer.JSON(&out)
}

func trial(t *simulate.Trial) *trialJSON {
	out := &trialJSON{PrefillUnits: t.Fleet.Prefill, DecodeUnits: t.Fleet.Decode, PrefillTP: t.PrefillTP, Holds: t.Holds, Unstable: t.Unstable}
	if t.Unstable {
		out.Carries = &t.ServedPerSecond
		return out
	}
	if t.TTFTAim > 0 {
		out.TTFT = &t.TTFTAim
	}
	if t.TPOTAim > 0 {
		out.TPOT = &t.TPOTAim
	}
	if t.TTFTAim > 0 && t.TPOTAim > 0 {
		out.Goodput = &t.GoodPerSecond
	}
	return out
}

// reckonedJSON is the contract's answer to moelb simulate --scenario deepseek-day.
type reckonedJSON struct {
	Version    int        `json:"version"`
	Scenario   string     `json:"scenario"`
	NodesMean  float64    `json:"nodes_mean"`
	NodesPeak  float64    `json:"nodes_peak"`
	CostUSD    float64    `json:"cost_usd"`
	IncomeUSD  float64    `json:"income_usd"`
	Margin     float64    `json:"margin_percent"`
	Prefill    float64    `json:"prefill_tokens_per_second_per_node"`
	Decode     float64    `json:"decode_tokens_per_second_per_node"`
	PerRequest float64    `json:"output_tokens_per_second_per_request"`
	Hours      []hourJSON `json:"hours" lines:"open"`
}

type hourJSON struct {
	Hour       int     `json:"hour"`
	Nodes      float64 `json:"nodes"`
	CostUSD    float64 `json:"cost_usd"`
	IncomeUSD  float64 `json:"income_usd"`
	Decode     float64 `json:"decode_tokens_per_second_per_node"`
	Requests   float64 `json:"requests_per_gpu"`
	PerRequest float64 `json:"output_tokens_per_second_per_request"`
}

func dayJSON(d *simulate.Day) ([]byte, error) {
	a := reckonedJSON{
		Version: 1, Scenario: deepSeekScenario, NodesMean: exactly(d.NodesMean), NodesPeak: d.NodesPeak, CostUSD: cents(d.CostUSD), IncomeUSD: cents(d.IncomeUSD),
		Margin: d.Margin, Prefill: d.PrefillPerNode, Decode: d.DecodePerNode, PerRequest: d.PerRequest,
	}
	for _, h := range d.Hours {
		a.Hours = append(a.Hours, hourJSON{h.Hour, exactly(h.Nodes), cents(h.CostUSD), cents(h.IncomeUSD), h.PerNode, h.Requests, h.PerRequest})
	}
	return answer.JSON(&a)
}
