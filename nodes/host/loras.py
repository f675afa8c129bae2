"""LoRAs in front of a MODEL that changed nothing in it: the host only logs what it could not use."""

STRENGTH = "strength_model"


def lora_notes(hidden, model) -> tuple[str, ...]:
    """A sentence when LoRA loaders stand in front of the node, each with a strength, and no weight of the MODEL is patched.

    `hidden` holds the running prompt and the node's id, as the host gives them; None or without them there is nothing to say.
    """
    prompt, node = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
    if not prompt or str(node) not in prompt or model.patches or model.injections:
        return ()
    files = [str(entry["inputs"].get("lora_name", "?")) for entry in upstream(prompt, str(node)) if _loads_lora(entry)]
    if not files:
        return ()
    name = type(model.model).__name__
    return (f"No weight of this MODEL ({name}) is changed by {', '.join(files)}: made for another base model. Choose a LoRA for this one, or remove the loader.",)


def upstream(prompt: dict, node: str) -> list[dict]:
    """The nodes that the MODEL came through, the nearest first."""
    found, seen = [], {node}
    while (link := prompt[node]["inputs"].get("model")) and isinstance(link, list) and str(link[0]) in prompt and str(link[0]) not in seen:
        node = str(link[0])
        seen.add(node)
        found.append(prompt[node])
    return found


def _loads_lora(entry: dict) -> bool:
    """Whether a node applies a LoRA file with a strength that is not 0 (or one that is connected)."""
    return "lora_name" in entry["inputs"] and entry["inputs"].get(STRENGTH, 1.0) != 0
