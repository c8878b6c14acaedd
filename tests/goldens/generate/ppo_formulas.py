"""PPO's formulas, as the methods' documentation and TRL 0.11 have them. One tensor is one response, or the tokens of a batch."""

import numpy as np
import torch


def token_rewards(policy: torch.Tensor, reference: torch.Tensor, score, beta: float) -> torch.Tensor:
    """-beta (log π - log π_ref) of one response's tokens, the score added at the last."""
    rewards = -beta * (policy - reference)
    rewards[-1] += score
    return rewards


def gae(rewards: torch.Tensor, values: torch.Tensor, gamma: float, factor: float) -> torch.Tensor:
    """One response's advantages: δ_t = r_t + γV_{t+1} - V_t, V after the end 0; A_t = δ_t + γλA_{t+1}."""
    advantages, after, value = torch.empty_like(rewards), 0.0, 0.0
    for t in reversed(range(len(rewards))):
        after = rewards[t] + gamma * value - values[t] + gamma * factor * after
        advantages[t], value = after, values[t]
    return advantages


def whiten(advantages: list[torch.Tensor]) -> list[torch.Tensor]:
    """TRL's masked_whiten over all tokens of the batch: mean 0, and (unbiased variance + 1e-8) to 1."""
    tokens = torch.cat(advantages)
    scale = torch.rsqrt(tokens.var() + 1e-8)
    return [(a - tokens.mean()) * scale for a in advantages]


def divergence(policy: list[torch.Tensor], reference: list[torch.Tensor]) -> dict[str, float]:
    """The means over responses of the sums of both estimates of the KL divergence."""
    ratios = [p.double() - r.double() for p, r in zip(policy, reference)]
    k1, k3 = [r.sum().item() for r in ratios], [(torch.exp(-r) - 1 + r).sum().item() for r in ratios]
    return {"kl": float(np.mean(k1)), "k3": float(np.mean(k3))}


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    return 1 - ((returns - values).var() / returns.var()).item()


def policy_loss(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float) -> tuple[torch.Tensor, float]:
    """The mean over tokens of the larger of both losses, and the share of tokens whose clipped one is larger."""
    ratio = torch.exp(new - old)
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.max(plain, clipped).mean(), (clipped > plain).double().mean().item()


def value_loss(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> tuple[torch.Tensor, float]:
    """The same for values that may move from the old ones by `clip`."""
    plain, clipped = (values - returns).square(), (torch.clamp(values, old - clip, old + clip) - returns).square()
    return 0.5 * torch.max(plain, clipped).mean(), (clipped > plain).double().mean().item()
