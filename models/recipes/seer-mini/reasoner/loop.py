"""The training loop that all phases share: a budget of CPU seconds, a cosine rate, checkpoints to go on from."""
import math
import os
import signal
import time

import torch

SAVE_EVERY_SECONDS = 60
WARM_UP_STEPS = 60


class Loop:
    """Counts CPU time against a budget and saves modules and optimizer beside each other.

    On shared cores `wall_minutes`, counted from this start, may take the place of the budget.
    `modules` maps names to modules; the file at `path` holds their states, the optimizer's, and the
    time spent, and is gone on from when it exists.
    """

    def __init__(self, path, modules, rate, cpu_seconds, slow=None, slow_factor=1.0, wall_minutes=None):
        self.path, self.modules, self.rate, self.budget = path, modules, rate, cpu_seconds
        self.parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        calm = {id(p) for p in slow.parameters()} if slow else set()
        groups = [{"params": [p for p in self.parameters if id(p) not in calm], "factor": 1.0},
                  {"params": [p for p in self.parameters if id(p) in calm], "factor": slow_factor}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], rate, betas=(0.9, 0.98), weight_decay=0.02)
        self.spent, self.step, self.means = 0.0, 0, {}
        if os.path.exists(path):
            saved = torch.load(path)
            for name, module in modules.items():
                module.load_state_dict(saved[name])
            if len(saved["optimizer"]["param_groups"]) == len(self.optimizer.param_groups):
                self.optimizer.load_state_dict(saved["optimizer"])
            self.spent, self.step = saved["spent"], saved["step"]
        self.first_step = self.step
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))
        self.stopped = False
        self.started, self.saved_at = time.process_time() - self.spent, time.time()
        self.wall = wall_minutes and (time.time(), 60 * wall_minutes)

    def running(self):
        """Updates the clock and the rate; False when the budget is spent or the process is told to end."""
        self.spent = time.process_time() - self.started
        share = (time.time() - self.wall[0]) / self.wall[1] if self.wall else self.spent / self.budget
        share = min(1.0, share)
        rate = self.rate * min(1, (self.step - self.first_step + 1) / WARM_UP_STEPS) * (0.05 + 0.475 * (1 + math.cos(math.pi * share)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return share < 1 and not self.stopped

    def update(self, loss, **parts):
        """One optimizer step; `parts` are averaged for the log."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        for name, value in parts.items():
            value = value.item()
            self.means[name] = value if name not in self.means else 0.97 * self.means[name] + 0.03 * value
        if time.time() - self.saved_at > SAVE_EVERY_SECONDS:
            self.save()

    def save(self):
        state = {name: module.state_dict() for name, module in self.modules.items()}
        torch.save(state | {"optimizer": self.optimizer.state_dict(), "spent": self.spent, "step": self.step}, self.path + ".part")
        os.replace(self.path + ".part", self.path)
        self.saved_at = time.time()

    def report(self, extra=""):
        parts = " ".join(f"{name} {value:.3f}" for name, value in self.means.items())
        print(f"step {self.step} cpu {self.spent:.0f} {parts} {extra}", flush=True)
