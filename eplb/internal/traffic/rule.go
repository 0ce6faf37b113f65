package traffic

// Rule is how tokens that GPUs send to an expert are shared by its replicas.
type Rule int

const (
	// Even shares an expert's tokens evenly among its replicas.
	Even Rule = iota
	// Nearest has every GPU send all its tokens of an expert to one replica: its
	// own, else the first on its node, else evenly to all of them; tokens come
	// evenly from all GPUs. It is SGLang's static dispatch.
	Nearest
)

// shares sets s.share[i] to the part of an expert's tokens that the replica on
// gpus[i] gets; gpus are ascending, and none is twice there.
func (s *state) shares(gpus []int32) {
	n, share := len(gpus), s.share
	if s.y.Rule == Even {
		for i := range gpus {
			share[i] = 1 / float64(n)
		}
		return
	}
	all := s.y.GPUs()
	away := all
	for i := 0; i < n; {
		node := s.y.Node[gpus[i]]
		j := i
		for ; j < n && s.y.Node[gpus[j]] == node; j++ {
			share[j] = 1 / float64(all)
		}
		share[i] += float64(s.perNode[node]-(j-i)) / float64(all)
		away -= s.perNode[node]
		i = j
	}
	for i := range gpus {
		share[i] += float64(away) / float64(all*n)
	}
}
