"""The transformer written down plainly, for comparison: everything is recomputed wherever it is needed.

Projections of text, sync and visual features at every step; text keys and values and the rotary tables in every block;
visual tokens stretched, interleaved with the audio, turned, taken apart and shrunk as the description says; modulation
for every latent frame. Works on the state dict of a `FoleyTransformer` and gives its velocity.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

State = dict[str, Tensor]

UNIMODAL_QK_EPS = 1.1920929e-07
STREAMS = ("audio", "v_cond")
QKV = {"audio": "audio_self_attn_qkv", "v_cond": "v_cond_attn_qkv"}
QK_NORMS = {"audio": "audio_self_{}_norm", "v_cond": "v_cond_attn_{}_norm"}


def velocity(
    w: State, num_heads: int, latents: Tensor, timestep: Tensor, text: Tensor, visual: Tensor, sync: Tensor
) -> Tensor:
    """Velocity [B, C, L]; arguments as `FoleyTransformer.forward` takes them, `w` its state dict."""
    time = time_embedding(w, timestep, latents.dtype)
    sync = stretch(project_sync(w, sync), latents.shape[-1])
    audio = conv(w, "audio_embedder.proj", rearrange(latents, "B C L -> B L C")) + sync
    visual = gated_linear(w, "visual_proj", visual)
    text = linear(w, "cond_in.linear_2", F.silu(linear(w, "cond_in.linear_1", text)))
    for index in range(count(w, "triple_blocks")):
        audio, visual = multimodal_block(w, f"triple_blocks.{index}", num_heads, audio, visual, text, time)
    for index in range(count(w, "single_blocks")):
        audio = unimodal_block(w, f"single_blocks.{index}", num_heads, audio, sync + time[:, None])
    return rearrange(linear(w, "final_layer.linear", layer_norm(audio, 1e-6)), "B L C -> B C L")


def multimodal_block(
    w: State, block: str, num_heads: int, audio: Tensor, visual: Tensor, text: Tensor, time: Tensor
) -> tuple[Tensor, Tensor]:
    x = {"audio": audio, "v_cond": visual}
    mods = {s: linear(w, f"{block}.{s}_mod.linear", F.silu(time))[:, None].chunk(9, dim=-1) for s in STREAMS}

    q, k, v = {}, {}, {}
    for s in STREAMS:
        shift, scale, _ = mods[s][0:3]
        qkv = linear(w, f"{block}.{QKV[s]}", layer_norm(x[s], 1e-6) * (1 + scale) + shift)
        q[s], k[s], v[s] = rearrange(qkv, "B N (P H K) -> P B H N K", P=3, H=num_heads)
        q[s] = rms_norm(q[s], w[f"{block}.{QK_NORMS[s].format('q')}.weight"], 1e-6)
        k[s] = rms_norm(k[s], w[f"{block}.{QK_NORMS[s].format('k')}.weight"], 1e-6)
    q["audio"], q["v_cond"] = interleaved_rope(q["audio"], q["v_cond"])
    k["audio"], k["v_cond"] = interleaved_rope(k["audio"], k["v_cond"])
    out = attention(*(torch.cat((part["v_cond"], part["audio"]), dim=2) for part in (q, k, v)))
    out = dict(zip(("v_cond", "audio"), out.split((visual.shape[1], audio.shape[1]), dim=1)))
    x = {s: x[s] + mods[s][2] * linear(w, f"{block}.{s}_self_proj", out[s]) for s in STREAMS}

    for s in STREAMS:
        shift, scale, _ = mods[s][3:6]
        queries = linear(w, f"{block}.{s}_cross_q", layer_norm(x[s], 1e-6) * (1 + scale) + shift)
        queries = rearrange(queries, "B N (H K) -> B H N K", H=num_heads)
        q[s] = rope(rms_norm(queries, w[f"{block}.{s}_cross_q_norm.weight"], 1e-6))
    keys, values = rearrange(linear(w, f"{block}.text_cross_kv", text), "B N (P H K) -> P B H N K", P=2, H=num_heads)
    keys = rope(rms_norm(keys, w[f"{block}.text_cross_k_norm.weight"], 1e-6))
    out = attention(torch.cat((q["v_cond"], q["audio"]), dim=2), keys, values)
    out = dict(zip(("v_cond", "audio"), out.split((visual.shape[1], audio.shape[1]), dim=1)))
    x = {s: x[s] + mods[s][5] * linear(w, f"{block}.{s}_cross_proj", out[s]) for s in STREAMS}

    for s in STREAMS:
        shift, scale, gate = mods[s][6:9]
        hidden = linear(w, f"{block}.{s}_mlp.fc1", layer_norm(x[s], 1e-6) * (1 + scale) + shift)
        x[s] = x[s] + gate * linear(w, f"{block}.{s}_mlp.fc2", F.gelu(hidden, approximate="tanh"))
    return x["audio"], x["v_cond"]


def unimodal_block(w: State, block: str, num_heads: int, audio: Tensor, conditioning: Tensor) -> Tensor:
    modulation = linear(w, f"{block}.modulation.linear", F.silu(conditioning))
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)

    qkv = linear(w, f"{block}.linear_qkv", layer_norm(audio, 1e-5) * (1 + scale1) + shift1)
    q, k, v = rearrange(qkv, "B L (H K P) -> P B H L K", P=3, H=num_heads)
    q = rope(rms_norm(q, w[f"{block}.q_norm.weight"], UNIMODAL_QK_EPS))
    k = rope(rms_norm(k, w[f"{block}.k_norm.weight"], UNIMODAL_QK_EPS))
    audio = audio + gate1 * conv(w, f"{block}.linear1", attention(q, k, v))

    return audio + gate2 * gated_conv(w, f"{block}.linear2", layer_norm(audio, 1e-5) * (1 + scale2) + shift2)


def time_embedding(w: State, timestep: Tensor, dtype: torch.dtype) -> Tensor:
    half = w["time_in.mlp.0.weight"].shape[1] // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=timestep.device) / half)
    angles = timestep.float()[:, None] * frequencies
    waves = torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype)
    return linear(w, "time_in.mlp.2", F.silu(linear(w, "time_in.mlp.0", waves)))


def project_sync(w: State, sync: Tensor) -> Tensor:
    segments = rearrange(sync, "B (N P) C -> B N P C", P=w["sync_pos_emb"].shape[2]) + w["sync_pos_emb"]
    tokens = F.silu(linear(w, "sync_in.0", rearrange(segments, "B N P C -> B (N P) C")))
    return gated_conv(w, "sync_in.2", tokens)


def interleaved_rope(audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
    """Turns audio [B, H, L, K] and visual [B, H, V, K], interleaved to 2L with the visual tokens stretched to L."""
    stretched = stretch_heads(visual, audio.shape[2])
    both = rope(rearrange(torch.stack((audio, stretched), dim=3), "B H L P K -> B H (L P) K"))
    return both[:, :, 0::2], stretch_heads(both[:, :, 1::2], visual.shape[2])


def rope(x: Tensor) -> Tensor:
    """Turns adjacent pairs of x [B, H, N, K] by the positions 0..N-1."""
    exponents = torch.arange(0, x.shape[-1], 2, device=x.device, dtype=torch.float32) / x.shape[-1]
    angles = torch.outer(torch.arange(x.shape[2], device=x.device).float(), 1.0 / 10_000.0**exponents)
    pairs = torch.view_as_complex(rearrange(x.float(), "B H N (K P) -> B H N K P", P=2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)


def stretch(x: Tensor, length: int) -> Tensor:
    """Nearest-exact interpolation over the time of x [B, N, D]."""
    return F.interpolate(x.transpose(1, 2), size=length, mode="nearest-exact").transpose(1, 2)


def stretch_heads(x: Tensor, length: int) -> Tensor:
    tokens = rearrange(x, "B H N K -> B N (H K)")
    return rearrange(stretch(tokens, length), "B N (H K) -> B H N K", H=x.shape[1])


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return rearrange(F.scaled_dot_product_attention(q, k, v), "B H N K -> B N (H K)")


def layer_norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + eps)).to(x.dtype) * weight


def linear(w: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def conv(w: State, name: str, x: Tensor) -> Tensor:
    """Convolution over the time of x [B, N, D], as long as its input."""
    weight = w[f"{name}.weight"]
    return F.conv1d(x.transpose(1, 2), weight, w.get(f"{name}.bias"), padding=weight.shape[2] // 2).transpose(1, 2)


def gated_linear(w: State, name: str, x: Tensor) -> Tensor:
    return linear(w, f"{name}.w2", F.silu(linear(w, f"{name}.w1", x)) * linear(w, f"{name}.w3", x))


def gated_conv(w: State, name: str, x: Tensor) -> Tensor:
    return conv(w, f"{name}.w2", F.silu(conv(w, f"{name}.w1", x)) * conv(w, f"{name}.w3", x))


def count(w: State, blocks: str) -> int:
    return len({key.split(".")[1] for key in w if key.startswith(f"{blocks}.")})
