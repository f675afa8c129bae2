"""The maths room: networks, fields and loops, importable without ComfyUI. Users' weights live in the host's model folders, never here."""
