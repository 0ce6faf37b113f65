package decode

import "sync"

// Safe is a Balancer for many goroutines: a lock around each call. The zero Safe
// is not usable: see NewSafe.
type Safe struct {
	mu sync.Mutex
	b  *Balancer
}

var _ Batcher = (*Safe)(nil)

// NewSafe wraps a balancer, which must not be used past it from then on.
func NewSafe(b *Balancer) *Safe { return &Safe{b: b} }

// Do calls f with the balancer, for several calls that belong together; no other
// call runs meanwhile.
func (s *Safe) Do(f func(*Balancer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.b)
}

// Add is Balancer.Add.
func (s *Safe) Add(r Request) (rank int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Add(r)
}

// Batch is Balancer.Batch.
func (s *Safe) Batch(dst []int, requests []Request) ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Batch(dst, requests)
}

// Enter is Balancer.Enter.
func (s *Safe) Enter(r Request, rank int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Enter(r, rank)
}

// Quote is Balancer.Quote.
func (s *Safe) Quote(r Request) (Quote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Quote(r)
}

// Start is Balancer.Start.
func (s *Safe) Start(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Start(id)
}

// Grow is Balancer.Grow.
func (s *Safe) Grow(id ID, tokens int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Grow(id, tokens)
}

// GrowAll is Balancer.GrowAll.
func (s *Safe) GrowAll(all []Growth) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.GrowAll(all)
}

// Generated is Balancer.Generated.
func (s *Safe) Generated(id ID, tokens int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Generated(id, tokens)
}

// Step is Balancer.Step.
func (s *Safe) Step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Step()
}

// Done is Balancer.Done.
func (s *Safe) Done(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Done(id)
}

// Cancel is Balancer.Cancel.
func (s *Safe) Cancel(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Cancel(id)
}

// Evict is Balancer.Evict.
func (s *Safe) Evict(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Evict(id)
}

// Move is Balancer.Move.
func (s *Safe) Move(id ID, to int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Move(id, to)
}

// Sync is Balancer.Sync.
func (s *Safe) Sync(dst Changes, rank int, running []Request) (Changes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Sync(dst, rank, running)
}

// Rebalance is Balancer.Rebalance.
func (s *Safe) Rebalance(dst []Move, most int) ([]Move, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Rebalance(dst, most)
}

// Standouts is Balancer.Standouts.
func (s *Safe) Standouts(dst []Standout) ([]Standout, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Standouts(dst)
}

// Overfull is Balancer.Overfull.
func (s *Safe) Overfull(dst []ID) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Overfull(dst)
}

// Drain is Balancer.Drain.
func (s *Safe) Drain(rank int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Drain(rank)
}

// Restore is Balancer.Restore.
func (s *Safe) Restore(rank int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Restore(rank)
}

// Dead is Balancer.Dead.
func (s *Safe) Dead(dst []Lost, rank int) ([]Lost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Dead(dst, rank)
}

// Resize is Balancer.Resize.
func (s *Safe) Resize(ranks int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Resize(ranks)
}

// Report is Balancer.Report.
func (s *Safe) Report(r Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Report(r)
}

// Where is Balancer.Where.
func (s *Safe) Where(id ID) (rank int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Where(id)
}

// KV is Balancer.KV.
func (s *Safe) KV(id ID) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.KV(id)
}

// Rank is Balancer.Rank.
func (s *Safe) Rank(g int) RankStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Rank(g)
}

// Ranks is Balancer.Ranks.
func (s *Safe) Ranks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Ranks()
}

// Stats is Balancer.Stats.
func (s *Safe) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Stats()
}

// StepSeconds is Balancer.StepSeconds.
func (s *Safe) StepSeconds() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.StepSeconds()
}

// Known is Balancer.Known.
func (s *Safe) Known(dst []ID) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Known(dst)
}

// AppendSnapshot is Balancer.AppendSnapshot.
func (s *Safe) AppendSnapshot(dst []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.AppendSnapshot(dst)
}
