"""Binary glTF: arrays become accessors of one buffer, and the container around them is pygltflib's."""

import hashlib

import numpy as np

FLOAT, SHORT, INT = 5126, 5123, 5125
COMPONENT = {"float32": FLOAT, "uint16": SHORT, "uint32": INT}
KIND = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
VERTICES, INDICES = 34962, 34963
GENERATOR = "Bloom4D"


class Glb:
    """A glTF document under construction. Equal arrays and pictures are stored once."""

    def __init__(self):
        try:
            import pygltflib
        except ImportError as error:
            raise ImportError("GLB files need the package pygltflib, which is not installed. Install the pack's requirements.txt with ComfyUI's Python, or switch glb off.") from error
        self.document = pygltflib.GLTF2(asset=pygltflib.Asset(version="2.0", generator=GENERATOR))
        self._library = pygltflib
        self._data = bytearray()
        self._known = {}

    def accessor(self, values: np.ndarray, target: int | None = None) -> int:
        """An accessor over float32 (N,) or (N, C), uint16 or uint32 (N,); minimum and maximum of floats of one or three components are stored as glTF demands."""
        values = np.ascontiguousarray(values)
        width = values.shape[1] if values.ndim == 2 else 1
        data = values.tobytes()
        key = (hashlib.sha256(data).digest(), str(values.dtype), width, target)
        if key not in self._known:
            bounded = values.dtype == np.float32 and width in (1, 3) and target != INDICES
            bounds = {name: np.atleast_1d(getattr(values, name)(0)).tolist() for name in ("min", "max")} if bounded else {}
            view = self._view(data, target)
            made = self._library.Accessor(bufferView=view, byteOffset=0, componentType=COMPONENT[str(values.dtype)], count=len(values), type=KIND[width], **bounds)
            self._known[key] = self._append(self.document.accessors, made)
        return self._known[key]

    def texture(self, png: bytes) -> int:
        """A texture that repeats nowhere, of a PNG picture."""
        if png not in self._known:
            library, document = self._library, self.document
            image = self._append(document.images, library.Image(bufferView=self._view(png, None), mimeType="image/png"))
            if not document.samplers:
                document.samplers.append(library.Sampler(magFilter=9729, minFilter=9729, wrapS=33071, wrapT=33071))
            self._known[png] = self._append(document.textures, library.Texture(source=image, sampler=0))
        return self._known[png]

    def add(self, collection: str, **values) -> int:
        """Append an object to a list of the document by the class of glTF that it holds, such as `nodes`; its index."""
        kind = {"meshes": "Mesh", "nodes": "Node", "materials": "Material", "animations": "Animation"}[collection]
        return self._append(getattr(self.document, collection), getattr(self._library, kind)(**values))

    def finish(self, extras: dict | None = None) -> bytes:
        """The whole file, with one scene of every node."""
        document, library = self.document, self._library
        document.scenes, document.scene = [library.Scene(nodes=list(range(len(document.nodes))))], 0
        document.buffers = [library.Buffer(byteLength=len(self._data))]
        document.asset.extras = extras or {}
        document.extensionsUsed = sorted({name for material in document.materials for name in material.extensions or {}})
        document.set_binary_blob(bytes(self._data))
        return b"".join(document.save_to_bytes())

    def _view(self, data: bytes, target: int | None) -> int:
        self._data += bytes(-len(self._data) % 4)
        view = self._library.BufferView(buffer=0, byteOffset=len(self._data), byteLength=len(data), target=target)
        self._data += data
        return self._append(self.document.bufferViews, view)

    @staticmethod
    def _append(collection: list, item) -> int:
        collection.append(item)
        return len(collection) - 1
