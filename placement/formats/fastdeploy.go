package formats

import "github.com/moelb/moelb/placement"

// fastDeployFields are FastDeploy's tables. Despite its name,
// expert_id_to_ep_rank_array holds slots: FastDeploy copies its
// logical_to_physical_map there.
type fastDeployFields struct {
	experts, count [][]int
	slots          [][][]int
}

func (f *fastDeployFields) read(s *scanner, key string) (known bool, err error) {
	switch key {
	case "ep_rank_to_expert_id_list":
		f.experts, err = s.integerRows(key, s.lim.Slots)
	case "expert_id_to_ep_rank_array":
		f.slots, err = s.integerCube(key, s.lim.Experts, s.lim.Slots)
	case "expert_in_rank_num_list":
		f.count, err = s.integerRows(key, s.lim.Experts)
	case "tokens_per_expert_stats_list":
		err = s.skip(0)
	default:
		return false, nil
	}
	return true, err
}

// placement wants ep_rank_to_expert_id_list; the other two tables must agree
// where they are given.
func (f *fastDeployFields) placement(gpus int) (placement.Placement, error) {
	p := placement.Placement{Experts: expertsOf(f.experts), GPUs: gpus, PhysicalToLogical: f.experts}
	if err := gpusOf(gpus, FastDeploy); err != nil {
		return p, err
	}
	if err := complete(&p); err != nil {
		return p, renamedMap(err, "ep_rank_to_expert_id_list")
	}
	if f.count != nil {
		if err := p.CheckLogicalCount(f.count); err != nil {
			return p, renamed(err, "expert_in_rank_num_list")
		}
	}
	if f.slots != nil {
		if err := p.SetLogicalToPhysical(f.slots); err != nil {
			return p, renamed(err, "expert_id_to_ep_rank_array")
		}
	}
	return p, nil
}

func encodeFastDeploy(p *placement.Placement) ([]byte, error) {
	if err := even(p, FastDeploy); err != nil {
		return nil, err
	}
	if err := p.CheckWidth(); err != nil {
		return nil, renamed(err, "expert_id_to_ep_rank_array")
	}
	b := []byte(`{"ep_rank_to_expert_id_list": [`)
	b = appendRows(b, p.PhysicalToLogical)
	b = append(b, "],\n\"expert_id_to_ep_rank_array\": ["...)
	for l, rows := range p.LogicalToPhysical() {
		if l > 0 {
			b = append(b, ',')
		}
		b = append(appendRows(append(b, "\n["...), rows), ']')
	}
	b = append(b, "],\n\"expert_in_rank_num_list\": ["...)
	b = appendRows(b, p.LogicalCount())
	return append(b, "]}\n"...), nil
}
