"""ppo.json: PPO's formulas on given numbers, in f64, with gradients: rewards, GAE, whitening, both losses, the KL controller.

They are `ppo_formulas`, since the TRL of requirements.txt has no PPO trainer any more, and were compared once with TRL
0.11.4 (`compute_rewards`, `compute_advantages`, `loss`, `AdaptiveKLController`) and TRL 1.12's `masked_whiten`. Every run
checks the policy loss against `GRPOTrainer._compute_loss`, called with a stand-in for the trainer (loss type `bnpo` is a
mean over tokens and takes an advantage per token), and GAE against the direct sum of its definition. The score is added at
each response's last token. `explained_variance` is 1 - var(returns - values) / var(returns); TRL 0.11's `var_explained` has
the mean of (returns - values)² in place of the first variance. `kl` and `k3` are means over responses of sums over tokens.
"""

import collections
import types

import numpy as np
import torch
from trl import GRPOTrainer

import golden
import ppo_formulas

RAGGED, MANY = [1, 3, 7, 12], [5, 1, 12, 4, 9, 2, 2]
BATCHES = [  # name, responses' lengths, β, γ, λ, scale of log π - log π_ref
    ("ragged", RAGGED, 0.1, 1.0, 0.95, 0.5), ("discounted", RAGGED, 0.1, 0.99, 0.9, 0.5),
    ("lambda_1", RAGGED, 0.1, 1.0, 1.0, 0.5), ("lambda_0", RAGGED, 0.1, 1.0, 0.0, 0.5),
    ("policy_is_reference", RAGGED, 0.1, 1.0, 0.95, 0.0), ("no_kl", MANY, 0.0, 1.0, 0.95, 1.0),
    ("many", MANY, 0.05, 1.0, 0.95, 2.0), ("two_tokens", [2], 0.1, 1.0, 0.95, 0.5),
    ("two_responses", [1, 1], 0.1, 1.0, 0.95, 0.5),
]
LOSSES = {"equal": 0.0, "ordinary": 0.3, "far": 2.9}  # name: the largest distance from the old
CLIP = 0.2
CONTROLLERS = [  # first β, target, horizon, (KL, sequences) of each update
    (0.1, 6.0, 10000, [(0.0, 256), (3.5, 256), (5.9, 256), (6.0, 64), (6.5, 64), (30.0, 256), (7.1, 256), (-1.0, 3)]),
    (0.05, 0.5, 100, [(0.52, 16), (0.45, 16), (4.0, 16), (4.0, 7), (0.1, 16), (0.5, 16)]),
]


def main() -> None:
    random = np.random.default_rng(11)
    golden.write("ppo", __file__, __doc__.strip(), {
        "advantages": [advantages_case(random, *batch) for batch in BATCHES],
        "policy_loss": [policy_case(random, *case) for case in LOSSES.items()],
        "value_loss": [value_case(random, *case) for case in LOSSES.items()],
        "kl_controller": [controller_case(*case) for case in CONTROLLERS],
    })


def advantages_case(random, name: str, lengths: list[int], beta: float, gamma: float, factor: float, scale: float) -> dict:
    values, policy = ragged(random, lengths, 1.0), [-p.abs() - 0.01 for p in ragged(random, lengths, 2.0)]
    reference = [-(p + d).abs() for p, d in zip(policy, ragged(random, lengths, scale))]
    scores = numbers(random, len(lengths), 2.0)
    rewards = [ppo_formulas.token_rewards(p, r, s, beta) for p, r, s in zip(policy, reference, scores)]
    advantages = [ppo_formulas.gae(r, v, gamma, factor) for r, v in zip(rewards, values)]
    for advantage, reward, value in zip(advantages, rewards, values):
        torch.testing.assert_close(advantage, summed(reward, value, gamma, factor), rtol=1e-12, atol=1e-13)
    returns = [a + v for a, v in zip(advantages, values)]
    lists = {"values": values, "log_probs": policy, "reference_log_probs": reference, "rewards": rewards,
             "advantages": advantages, "returns": returns, "whitened": ppo_formulas.whiten(advantages)}
    return {
        "name": name, "beta": beta, "gamma": gamma, "lambda": factor, "scores": golden.exact(scores),
        **{key: [golden.exact(response) for response in responses] for key, responses in lists.items()},
        "explained_variance": ppo_formulas.explained_variance(torch.cat(values), torch.cat(returns)),
        **ppo_formulas.divergence(policy, reference),
    }


def summed(rewards: torch.Tensor, values: torch.Tensor, gamma: float, factor: float) -> torch.Tensor:
    """GAE as it is defined, the sum of (γλ)^k δ_{t+k}."""
    deltas = rewards + gamma * torch.cat([values[1:], values.new_zeros(1)]) - values
    powers = (gamma * factor) ** torch.arange(len(deltas), dtype=deltas.dtype)
    return torch.stack([(powers[: len(deltas) - t] * deltas[t:]).sum() for t in range(len(deltas))])


def policy_case(random, name: str, distance: float) -> dict:
    advantages, old = numbers(random, 16, 1.0), -numbers(random, 16, 2.0).abs() - 3.5
    new = (old + distance * spread(16)).requires_grad_()
    loss, fraction = ppo_formulas.policy_loss(new, old, advantages, CLIP)
    gradient, = torch.autograd.grad(loss, new)
    check(new, old, advantages, loss, gradient, fraction)
    return {
        "name": name, "clip": CLIP, "new": golden.exact(new), "old": golden.exact(old), "advantages": golden.exact(advantages),
        "loss": golden.exact(loss), "gradient": golden.exact(gradient), "clip_fraction": fraction,
        "approximate_kl": golden.exact(0.5 * (new - old).square().mean()),
    }


def value_case(random, name: str, distance: float) -> dict:
    returns, old = numbers(random, 16, 2.0), numbers(random, 16, 2.0)
    values = (old + distance * spread(16)).requires_grad_()
    loss, fraction = ppo_formulas.value_loss(values, old, returns, CLIP)
    gradient, = torch.autograd.grad(loss, values)
    return {
        "name": name, "clip": CLIP, "values": golden.exact(values), "old_values": golden.exact(old),
        "returns": golden.exact(returns), "loss": golden.exact(loss), "gradient": golden.exact(gradient),
        "clip_fraction": fraction,
    }


def controller_case(beta: float, target: float, horizon: int, updates: list[tuple[float, int]]) -> dict:
    """β after each update."""
    steps, now = [], beta
    for kl, n in updates:
        now *= 1 + float(np.clip(kl / target - 1, -0.2, 0.2)) * n / horizon
        steps.append({"kl": kl, "n": n, "beta": now})
    return {"beta": beta, "target": target, "horizon": horizon, "updates": steps}


def check(new, old, advantages, loss, gradient, fraction: float) -> None:
    """TRL's GRPO agrees: one sequence with these tokens, no KL."""
    def same(tensor, **_):
        return tensor

    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new[None], torch.zeros_like(new)[None], None),
        beta=0.0, loss_type="bnpo", epsilon_low=CLIP, epsilon_high=CLIP, importance_sampling_level="token",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        aux_loss_enabled=False, _entropy_bonus_enabled=False,
        args=types.SimpleNamespace(delta=None), model=types.SimpleNamespace(training=False),
        accelerator=types.SimpleNamespace(gather=same, reduce=same), _metrics={"eval": collections.defaultdict(list)},
    )
    tokens = torch.ones(1, len(new), dtype=torch.long)
    inputs = {"prompt_ids": tokens, "prompt_mask": tokens, "completion_ids": tokens, "completion_mask": tokens,
              "old_per_token_logps": old[None], "advantages": advantages[None]}
    theirs = GRPOTrainer._compute_loss(trainer, None, inputs)
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, new)[0], rtol=1e-12, atol=1e-15)
    assert abs(fraction - trainer._metrics["eval"]["clip_ratio/region_mean"][0]) < 1e-6


def numbers(random: np.random.Generator, count: int, scale: float) -> torch.Tensor:
    """Random numbers of three decimals."""
    return torch.tensor(np.round(scale * random.standard_normal(count), 3))


def ragged(random: np.random.Generator, lengths: list[int], scale: float) -> list[torch.Tensor]:
    return [numbers(random, length, scale) for length in lengths]


def spread(count: int) -> torch.Tensor:
    """Numbers from -1 to 1, the near and the far interleaved so that both meet advantages of both signs."""
    return torch.linspace(-1, 1, count, dtype=torch.float64)[torch.arange(count) * 5 % count]


if __name__ == "__main__":
    main()
