package deepseek

// cascadeSum adds a group's loads in the order in which PyTorch's CPU kernel
// adds a contiguous row of float32 (aten/src/ATen/native/cpu/SumKernel.cpp):
// where sums are rounded, the order decides how, and ties with it.
//
// From 8 numbers on, they are added in vectors of 8, four at a time into sums of
// their own; 16 such steps make a block, 16 blocks a block of blocks, each added
// up before the next begins. Fewer are added as if a vector held one.
func cascadeSum(x []float32) float32 {
	lanes := 1
	if len(x) >= 8 {
		lanes = 8
	}
	var level [3][32]float32
	step := 4 * lanes
	for n := 1; len(x) >= step; n++ {
		for i, v := range x[:step] {
			level[0][i] += v
		}
		x = x[step:]
		for j := 0; j < 2 && n%(16<<(4*j)) == 0; j++ {
			for i, v := range level[j] {
				level[j+1][i] += v
			}
			level[j] = [32]float32{}
		}
	}
	sum := &level[0]
	for i := range sum {
		sum[i] += level[1][i]
		sum[i] += level[2][i]
	}
	for ; len(x) >= lanes; x = x[lanes:] {
		for i, v := range x[:lanes] {
			sum[i] += v
		}
	}
	for k := 1; k < 4; k++ {
		for i := range lanes {
			sum[i] += sum[k*lanes+i]
		}
	}
	total := float32(0)
	for _, v := range x {
		total += v
	}
	for _, v := range sum[:lanes] {
		total += v
	}
	return total
}
