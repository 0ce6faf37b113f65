// Package formats reads and writes the files that inference engines keep about
// their experts: recorded statistics (ReadStats, DecodeStats) and placements
// (ReadPlacement, DecodePlacement, EncodePlacement). The format of an input is
// told from its bytes, never from its name, and gzip is read transparently.
//
// Statistics:
//
//	sglang-json   SGLang: {"logical_count": [layers][experts] or [steps][layers][experts]}
//	sglang-pt     SGLang's recorder: torch.save of either of its two kinds of record
//	vllm-ascend   a tensor [layers, experts] or [windows, layers, experts] in a .pt
//	tensorrt-llm  TensorRT-LLM: a folder of meta_info.json and rank<r>.safetensors
//	fastdeploy    FastDeploy: {"tokens_per_expert_stats_list": [layers][experts]}
//	vllm-proposed the loads that vLLM is proposed to save: safetensors, a tensor
//	              [layers, experts] a model
//	adrs          ADRS/OpenEvolve: {"load_history": [{"logical_expert_load": [layers][experts]}]}
//	json          [layers][experts] or [windows][layers][experts]
//	json-lines    one object a window: {"counts": [layers][experts]}
//	csv           one row a layer, one column an expert, commas or blanks between
//	              them, with a header or without
//	npy           NumPy, 2-D or 3-D, integers or floats; in an .npz too
//
// Placements: see the constants of Format.
//
// Input is untrusted. Nothing is executed: the reader of .pt files knows the
// few pickle operations and names that it needs and refuses the rest by name.
// Sizes are bounded before memory is taken (the limits of package placement;
// after decompression 1 GiB of statistics that are read as a stream, 8 GiB of a
// .pt file that is read in place, 256 MiB of one from a stream, 128 MiB of a
// placement; windows beyond 2^25 numbers are added up in pairs), negative and non-finite numbers are
// refused with their place, and no input makes a reader panic.
//
// The readers are our own. The libraries that exist were tried with hostile
// input first: gopickle takes memory as the file says (1 GiB for a ten-byte
// pickle) and its reader of .pt panics on legacy files; npyio panics on a header
// without a line end; goccy/go-yaml needs time and memory quadratic in the
// nesting (half a minute and 14 GiB of allocations for 100 kB of opening
// brackets); nlpodyssey/safetensors accepts a tensor named twice and holds a
// whole file in memory.
package formats
