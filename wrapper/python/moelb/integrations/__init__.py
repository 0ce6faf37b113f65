"""Stand-ins for the balancers of inference engines, one module an engine.

    sglang       the call of sglang.srt.eplb.eplb_algorithms
    vllm         a policy of vllm.distributed.eplb.policy, and vLLM's plugin hook
    vllm_ascend  a policy of vllm_ascend.eplb.core.policy
    fastdeploy   the call of fastdeploy.eplb.eplb

None of them imports its engine until it is told to put itself in there.
"""
