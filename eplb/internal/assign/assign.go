package assign

import "math"

// Least returns the assignment of rows to columns of least cost, [n][n], by
// shortest augmenting paths (Jonker and Volgenant). Cost: O(n³).
func Least(cost []int32, n int) []int {
	u, v := make([]int32, n+1), make([]int32, n+1)
	row := make([]int, n+1) // of each column, 0 = none, numbered from 1
	way := make([]int, n+1)
	least := make([]int32, n+1)
	done := make([]bool, n+1)
	for i := 1; i <= n; i++ {
		row[0] = i
		for j := range least {
			least[j], done[j] = math.MaxInt32, false
		}
		j := 0
		for row[j] != 0 {
			done[j] = true
			r, delta, next := row[j], int32(math.MaxInt32), 0
			for k := 1; k <= n; k++ {
				if done[k] {
					continue
				}
				if c := cost[(r-1)*n+k-1] - u[r] - v[k]; c < least[k] {
					least[k], way[k] = c, j
				}
				if least[k] < delta {
					delta, next = least[k], k
				}
			}
			for k := 0; k <= n; k++ {
				if done[k] {
					u[row[k]] += delta
					v[k] -= delta
				} else {
					least[k] -= delta
				}
			}
			j = next
		}
		for j != 0 {
			row[j] = row[way[j]]
			j = way[j]
		}
	}
	out := make([]int, n)
	for j := 1; j <= n; j++ {
		out[row[j]-1] = j - 1
	}
	return out
}
