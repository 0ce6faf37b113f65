package prefill

import "sync"

// Safe is a Balancer for many goroutines: a lock around each call. The zero Safe
// is not usable: see NewSafe.
type Safe struct {
	mu sync.Mutex
	b  *Balancer
}

var (
	_ Assigner = (*Safe)(nil)
	_ Former   = (*Safe)(nil)
)

// NewSafe wraps a balancer, which must not be used past it from then on.
func NewSafe(b *Balancer) *Safe { return &Safe{b: b} }

// Do calls f with the balancer, for several calls that nothing may come between.
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

// Quote is Balancer.Quote.
func (s *Safe) Quote(r Request) (Quote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Quote(r)
}

// Enqueue is Balancer.Enqueue.
func (s *Safe) Enqueue(r Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Enqueue(r)
}

// Step is Balancer.Step.
func (s *Safe) Step(dst []Chunk) []Chunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Step(dst)
}

// StepWithin is Balancer.StepWithin.
func (s *Safe) StepWithin(dst []Chunk, left []Budget) ([]Chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.StepWithin(dst, left)
}

// SetCached is Balancer.SetCached.
func (s *Safe) SetCached(id ID, rank int, cached int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.SetCached(id, rank, cached)
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

// Enter is Balancer.Enter.
func (s *Safe) Enter(r Request, rank int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Enter(r, rank)
}

// Move is Balancer.Move.
func (s *Safe) Move(id ID, to int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Move(id, to)
}

// Sync is Balancer.Sync.
func (s *Safe) Sync(dst Changes, rank int, running []Running) (Changes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Sync(dst, rank, running)
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

// Version is Balancer.Version.
func (s *Safe) Version(rank int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Version(rank)
}

// Where is Balancer.Where.
func (s *Safe) Where(id ID) (rank int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Where(id)
}

// Rank is Balancer.Rank.
func (s *Safe) Rank(rank int) RankStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Rank(rank)
}

// Stats is Balancer.Stats.
func (s *Safe) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Stats()
}

// Known is Balancer.Known.
func (s *Safe) Known(dst []ID) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Known(dst)
}

// Ended is Balancer.Ended.
func (s *Safe) Ended(dst []ID) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Ended(dst)
}

// Ranks is Balancer.Ranks.
func (s *Safe) Ranks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Ranks()
}

// Queued is Balancer.Queued.
func (s *Safe) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Queued()
}

// AppendSnapshot is Balancer.AppendSnapshot.
func (s *Safe) AppendSnapshot(dst []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.AppendSnapshot(dst)
}
