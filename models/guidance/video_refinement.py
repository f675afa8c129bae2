"""Video Refinement Loss: a rendered video against what a video model makes of it half-way to noise (L_Vid; specification 3.7)."""

from dataclasses import dataclass

import torch

from .decoded import at_native_size, decoded_loss
from .denoising import redraw
from .directions import ViewDirections
from .objective import Outcome, Pictures
from .prior import DecodingPrior
from .schedules import NoiseRange, constant
from .seeds import generator


@dataclass(frozen=True)
class VideoRefinement:
    """mean |V - sg V'|^2 over all pixels and frames of a rendered video V, at the model's size.

    V' is V encoded, noised to one level drawn from `levels`, denoised in `denoising_steps` deterministic steps with guidance
    (`denoising.redraw`) and decoded. Unlike distillation it asks for a video that the model really drew: what is kept of V at
    these levels stays, what flickers or cannot move so is drawn anew. `guidance` 0 or -1 takes the model's own scale.
    """

    levels: NoiseRange = NoiseRange(constant(0.3), constant(0.5))
    denoising_steps: int = 15
    guidance: float = -1.0
    directions: ViewDirections = ViewDirections()

    def evaluate(self, pictures: Pictures, judge: DecodingPrior, step: int, steps: int, keys: tuple) -> Outcome:
        """See `Objective`; the random numbers are of the purposes "level" and "noise"."""
        rgb, alpha = pictures.for_prior(judge)
        level = float(self.levels.draw(step, steps, 1, generator(*keys, "level")))
        with torch.no_grad():
            latents = judge.encode(rgb, alpha)
        drawn = redraw(latents, pictures.cameras, judge, level, self.denoising_steps, self.guidance, generator(*keys, "noise"), self.directions)
        video = at_native_size(torch.cat([rgb, alpha[..., None]], dim=-1) if judge.accepts_alpha else rgb, judge.native_size)
        squared, bad = decoded_loss(video, [drawn], judge)
        loss = squared / video.numel() if bad < video.numel() else squared * float("nan")  # nothing was drawn: the step is skipped
        return Outcome(loss, level, non_finite=bad, denoised=drawn)
