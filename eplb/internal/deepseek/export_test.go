package deepseek

// For the tests beside, which compare with slower programs.
var (
	CascadeSum = cascadeSum
	Introsort  = introsort
	Descending = descending
	Item       = item
)
