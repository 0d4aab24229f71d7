"""Ten lines that let evalkit ask a model of one's own: tests/from_scratch.py."""

from pathlib import Path

from from_scratch import FromScratch

from evalkit.files import file_digest


class Glue:
    def __init__(self, folder, temperature=0.0, top_p=1.0):
        self.model, self.how = FromScratch(folder), (temperature, top_p)

    @classmethod
    def identity(cls, folder, **options):
        return {"weights": file_digest(Path(folder) / "model.safetensors")}

    def answer(self, image, prompt, max_new_tokens, seed):
        return self.model.generate(image, prompt, max_new_tokens, *self.how, seed)
