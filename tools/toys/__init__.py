"""Toy ablations (specification 4): a scene with a closed form, priors whose answer is exact, and scores against the truth."""
