"""The host room: node schemas and the glue to ComfyUI."""
