"""ppo_trace.json: an N = 2 HBAT run with PPO of a tiny tied LLaMA with grouped-query attention, step by step.

The phases are sft-1, ppo-1, sft-2, ppo-2; the importance rule is `relative`. Training is PyTorch's in f32; changes,
importance and the penalty's value are f64 from the f32 weights. Examples and prompts are split and batched as in
hbat_trace.json. A PPO step is one batch of prompts with all its inner epochs, each of them one policy update and one value
update on the whole batch, without padding. Responses are greedy, so no random numbers are needed: `smallest_lead` is the
least distance between the best and the second logit. They end with the token `eos`, kept, or at `new_tokens`. Scores are
read at the last response token, the value of a token at the one before it, by the score head of the value model, which
starts as a copy of the reward model and keeps its weights from ppo-1 to ppo-2; its optimizer is new in every phase. Both
learning rates follow the schedule over the phase's PPO steps, cold ones included, and are constant within a step. A cold
step (the first of ppo-1) updates the value model alone: its policy losses are computed, and its lists of policy norms and
penalties are empty. The penalty's gradient λF(θ − θ*) is added to the policy loss's before clipping. `kl` (k1) and `k3` are
of the rollout's log-probs, means over responses of sums; whitening is over the batch's response tokens.
`beside` is a run of ppo-1 alone from the same start, without penalty, whose policy loss has `sft_coefficient` times the
mean negative log-likelihood per token of demonstrations added to it: in every update the next ones in their order, as many as
the batch has prompts, beginning anew after the last; a cold step passes over as many. `dropping` is ppo-1 alone likewise, without
demonstrations: of every batch the ceil(`drop_fraction` · n) answers with the best scores, but never all, are judged and not trained
on (the dynamic sampling of the paper's HBAT+ESRL); its `scores` are of all answers, everything else of the rest. `smallest_clip_margin` is the least distance of a ratio from 1 ± clip. `rounding` says how far the same run in f64 is from
this one: as in hbat_trace.json for SFT steps and phases, and for `ppo` the largest difference over the largest number of
that name.
"""

import copy
import math

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

import golden
import hbat_trace
import llama
import ppo_formulas
import schedules

SETTINGS = llama.config(num_key_value_heads=2, bos_token_id=2, eos_token_id=1, pad_token_id=0)
REWARD = SETTINGS | {"hidden_size": 16, "tie_word_embeddings": False, "architectures": ["LlamaForSequenceClassification"]}
RUN = {
    "rule": "relative", "rounds": 2, "batch": 2, "lambda": 1.0, "F_max": 100.0, "tau": 1.0, "betas": [0.9, 0.95], "eps": 1e-8,
    "weight_decay": 0.0, "clip": 1.0, "schedule": "cosine",
    "sft": {"epochs": 2, "learning_rate": 1e-3, "warmup": "none"},
    "ppo": {"batch": 3, "learning_rate": 5e-4, "value_learning_rate": 1e-3, "warmup": "min(100, floor(0.1 * steps))",
            "inner_epochs": 3, "cold_steps": 1, "new_tokens": 6, "eos": 1, "score_clip": 10.0, "beta": 0.1, "gamma": 1.0,
            "lambda": 0.95, "clip": 0.2, "value_clip": 0.2},
}
SEED = 76  # one whose responses end early and late, see `check`
RATES = ("learning_rate", "value_learning_rate")
OF_UPDATE = {"grad_norms": "grad_norm", "penalties": "penalty", "penalty_grad_norms": "penalty_grad_norm"}
COEFFICIENT, DROPPED = 0.5, 0.3
PER_EPOCH = ("policy_losses", "value_losses", *OF_UPDATE, "value_grad_norms", "clip_fractions")


def main() -> None:
    start, reward, data = begin(SEED)
    narrow, wide = Run(copy.deepcopy(start), reward, data), Run(copy.deepcopy(start).double(), copy.deepcopy(reward).double(), data)
    weights = {"start": llama.weights(start), "reward_start": llama.weights(reward)}
    narrow.train()
    wide.train()
    check(narrow, wide)
    beside, dropping = [
        [of(start, reward, data), of(copy.deepcopy(start).double(), copy.deepcopy(reward).double(), data)] for of in (Beside, Dropping)]
    for run in beside + dropping:
        run.fit("ppo-1", "ppo", data["ppo"], (np.zeros(len(run.units)), [p.detach().clone() for p in run.units.values()]))
    check_beside(*beside)
    check_dropping(*dropping)
    golden.write("ppo_trace", __file__, __doc__.strip(), {
        "config": SETTINGS, "reward_config": REWARD, "run": RUN, **weights, "demonstrations": data["sft"], "prompts": data["ppo"],
        "rounding": rounding(narrow, wide), "smallest_lead": golden.significant(narrow.lead, 3),
        "smallest_clip_margin": golden.significant(narrow.margin, 3), "steps": narrow.steps, "phases": narrow.phases,
        "final_weights": llama.weights(narrow.model), "value_final": summary(narrow.value),
        "beside": {"sft_coefficient": COEFFICIENT, "steps": beside[0].steps, "final": summary(beside[0].model)},
        "dropping": {"drop_fraction": DROPPED, "steps": dropping[0].steps, "final": summary(dropping[0].model)},
    })


def begin(seed: int) -> tuple:
    """The policy, the reward model and the data; demonstrations end with the end token, so that the policy learns to end."""
    random = np.random.default_rng(seed)
    lengths = zip(random.integers(1, 8, 9).tolist(), random.integers(0, 4, 9).tolist())
    demonstrations = llama.sequences(random, list(lengths))
    data = {"sft": [{**d, "response": d["response"] + [RUN["ppo"]["eos"]]} for d in demonstrations],
            "ppo": [llama.tokens(random, int(length)) for length in random.integers(1, 9, 13)]}
    reward = LlamaForSequenceClassification(LlamaConfig(**copy.deepcopy(REWARD), num_labels=1)).eval()
    return llama.model(SETTINGS, seed), llama.seeded(reward, seed + 1), data


class Run(hbat_trace.Run):
    settings, objectives = RUN, ("sft", "ppo")

    def __init__(self, model, reward, data: dict):
        super().__init__(RUN["rule"], model, data)
        self.reward, self.value = reward, copy.deepcopy(reward)
        self.lead = self.margin = float("inf")

    def fit(self, phase: str, objective: str, examples: list, consolidation: tuple) -> None:
        if objective == "sft":
            return super().fit(phase, objective, examples, consolidation)
        settings, reference = RUN["ppo"], copy.deepcopy(self.model)
        batches = hbat_trace.batches(examples, settings["batch"])
        optimizers = [self.optimizer(model, settings[name]) for model, name in zip((self.model, self.value), RATES)]
        warmup = min(100, len(batches) // 10)
        used = {name: schedules.rates(RUN["schedule"], len(batches), warmup, settings[name]) for name in RATES}
        for step, prompts in enumerate(batches):
            now = {name: of_step[step] for name, of_step in used.items()}
            for optimizer, rate in zip(optimizers, now.values()):
                optimizer.param_groups[0]["lr"] = rate
            cold = phase == "ppo-1" and step < settings["cold_steps"]
            record = self.ppo_step(optimizers, self.rollout(prompts, reference), None if cold else consolidation)
            self.steps.append({"phase": phase, "step": step, **record, **now})

    @torch.no_grad()
    def rollout(self, prompts: list[list[int]], reference) -> dict:
        """Responses and all that is fixed during the inner epochs. Tensors hold the tokens of all responses."""
        settings = RUN["ppo"]
        rows = [(prompt, self.greedy(prompt)) for prompt in prompts]
        scores = [reads(self.reward, *row)[-1].clamp(-settings["score_clip"], settings["score_clip"]) for row in rows]
        rows, every, scores = self.kept(rows, scores)
        old, frozen = [[llama.log_probs(model, *row) for row in rows] for model in (self.model, reference)]
        values = [reads(self.value, *row)[:-1] for row in rows]
        rewards = [ppo_formulas.token_rewards(p, r, s, settings["beta"]) for p, r, s in zip(old, frozen, scores)]
        advantages = [ppo_formulas.gae(r, v, settings["gamma"], settings["lambda"]) for r, v in zip(rewards, values)]
        values, returns = torch.cat(values), torch.cat([a + v for a, v in zip(advantages, values)])
        record = {"responses": [response for _, response in rows], "scores": [score.item() for score in every],
                  **ppo_formulas.divergence(old, frozen),
                  "explained_variance": ppo_formulas.explained_variance(values.double(), returns.double())}
        return {"rows": rows, "old": torch.cat(old), "values": values, "returns": returns,
                "advantages": torch.cat(ppo_formulas.whiten(advantages)), "record": record}

    def kept(self, rows: list, scores: list) -> tuple[list, list, list]:
        """The answers that are trained on, all scores, and theirs."""
        return rows, scores, scores

    def greedy(self, prompt: list[int]) -> list[int]:
        response = []
        while len(response) < RUN["ppo"]["new_tokens"] and RUN["ppo"]["eos"] not in response:
            logits, tokens = llama.logits(self.model, prompt, response)[-1].topk(2)
            self.lead = min(self.lead, (logits[0] - logits[1]).item())
            response.append(tokens[0].item())
        return response

    def ppo_step(self, optimizers: list, rollout: dict, consolidation: tuple | None) -> dict:
        """All inner epochs on one rollout; a cold step has no consolidation, and no policy update."""
        record = {name: [] for name in PER_EPOCH}
        for _ in range(RUN["ppo"]["inner_epochs"]):
            if consolidation:
                done = self.step(optimizers[0], lambda _: self.policy_loss(rollout, record), consolidation)
                for name, key in OF_UPDATE.items():
                    record[name].append(done[key])
            else:
                self.policy_loss(rollout, record)
            self.value_step(optimizers[1], rollout, record)
        return {**rollout["record"], **record}

    def policy_loss(self, rollout: dict, record: dict) -> torch.Tensor:
        clip, new = RUN["ppo"]["clip"], torch.cat([llama.log_probs(self.model, *row) for row in rollout["rows"]])
        loss, fraction = ppo_formulas.policy_loss(new, rollout["old"], rollout["advantages"], clip)
        self.margin = min(self.margin, (((new.detach() - rollout["old"]).exp() - 1).abs() - clip).abs().min().item())
        record["policy_losses"].append(loss.item())
        record["clip_fractions"].append(fraction)
        return loss

    def value_step(self, optimizer, rollout: dict, record: dict) -> None:
        optimizer.zero_grad()
        values = torch.cat([reads(self.value, *row)[:-1] for row in rollout["rows"]])
        loss, _ = ppo_formulas.value_loss(values, rollout["values"], rollout["returns"], RUN["ppo"]["value_clip"])
        loss.backward()
        record["value_losses"].append(loss.item())
        record["value_grad_norms"].append(torch.nn.utils.clip_grad_norm_(self.value.parameters(), RUN["clip"]).item())
        optimizer.step()


class Beside(Run):
    """PPO with demonstrations in every update of the policy."""

    def __init__(self, model, reward, data: dict):
        super().__init__(copy.deepcopy(model), reward, data)
        self.place = self.batch = 0

    def rollout(self, prompts: list[list[int]], reference) -> dict:
        self.batch = len(prompts)
        return super().rollout(prompts, reference)

    def policy_loss(self, rollout: dict, record: dict) -> torch.Tensor:
        places = range(self.place, self.place + self.batch)
        demonstrations = [self.data["sft"][place % len(self.data["sft"])] for place in places]
        self.place += self.batch
        sft = llama.sft_loss(self.model, demonstrations)
        record.setdefault("sft_losses", []).append(sft.item())
        return super().policy_loss(rollout, record) + COEFFICIENT * sft


class Dropping(Run):
    """PPO on all answers but the best."""

    def __init__(self, model, reward, data: dict):
        super().__init__(copy.deepcopy(model), reward, data)
        self.gap = float("inf")

    def kept(self, rows: list, scores: list) -> tuple[list, list, list]:
        dropped = min(math.ceil(DROPPED * len(rows) - 1e-9), len(rows) - 1)
        order = sorted(range(len(rows)), key=lambda answer: -scores[answer].item())
        if dropped:
            self.gap = min(self.gap, (scores[order[dropped - 1]] - scores[order[dropped]]).item())
        rest = sorted(order[dropped:])
        return [rows[answer] for answer in rest], scores, [scores[answer] for answer in rest]


def reads(model: LlamaForSequenceClassification, prompt: list[int], response: list[int]) -> torch.Tensor:
    """The score head at the prompt's last token and at each response token: V of each response token, then the reward."""
    hidden = model.model(input_ids=torch.tensor([prompt + response]), use_cache=False).last_hidden_state
    return model.score(hidden)[0, len(prompt) - 1 :, 0]


def summary(model) -> dict:
    wide = {name: p.detach().double() for name, p in model.named_parameters()}
    return {name: {"mean": p.mean().item(), "sum_of_squares": p.square().sum().item()} for name, p in wide.items()}


def check(narrow: Run, wide: Run) -> None:
    """No choice hangs on rounding, and the trace has what it is to show."""
    assert min(narrow.lead, wide.lead) > 1e-3 and min(narrow.margin, wide.margin) > 1e-4, (narrow.lead, narrow.margin)
    steps, others = [[s for s in run.steps if "responses" in s] for run in (narrow, wide)]
    for step, other in zip(steps, others):
        assert step["responses"] == other["responses"] and step["clip_fractions"] == other["clip_fractions"]
    responses = [response for step in steps for response in step["responses"]]
    ended = [response[-1] == RUN["ppo"]["eos"] for response in responses]
    assert any(ended) and not all(ended) and any(len(r) < RUN["ppo"]["new_tokens"] for r in responses)
    assert any(fraction > 0 for step in steps for fraction in step["clip_fractions"])
    for prompt in narrow.data["ppo"]:  # transformers reads the same reward
        reward = wide.reward(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, 0]
        torch.testing.assert_close(reads(wide.reward, prompt[:-1], prompt[-1:])[-1], reward, rtol=1e-12, atol=0)


def check_beside(narrow: Beside, wide: Beside) -> None:
    """No answer hangs on rounding, and all demonstrations had their turn."""
    assert min(narrow.lead, wide.lead) > 1e-3 and min(narrow.margin, wide.margin) > 1e-4, (narrow.lead, narrow.margin)
    assert [step["responses"] for step in narrow.steps] == [step["responses"] for step in wide.steps]
    assert narrow.place > 2 * len(narrow.data["sft"])


def check_dropping(narrow: Dropping, wide: Dropping) -> None:
    """No answer, and not which is dropped, hangs on rounding; some step drops another than its first."""
    assert min(narrow.lead, wide.lead, narrow.gap, wide.gap) > 1e-3 and min(narrow.margin, wide.margin) > 1e-4, (narrow.lead, narrow.gap)
    assert [step["responses"] for step in narrow.steps] == [step["responses"] for step in wide.steps]
    best = [int(np.argmax(step["scores"])) for step in narrow.steps if len(step["scores"]) > 1]
    assert len(set(best)) > 1, best


def rounding(narrow: Run, wide: Run) -> dict:
    def largest(name: str) -> float:
        a, b = [np.hstack([step[name] for step in run.steps if name in step]) for run in (narrow, wide)]
        return golden.significant(np.abs(a - b).max() / np.abs(b).max(), 2)

    names = ("scores", "kl", "k3", "explained_variance", *PER_EPOCH)
    return {**hbat_trace.rounding(narrow, wide), "ppo": {name: largest(name) for name in names}}


if __name__ == "__main__":
    main()
