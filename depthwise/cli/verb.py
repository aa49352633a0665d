"""A verb of the command line, which knows what was meant by an option that it does not have."""

from typing import Any

from typer.core import TyperCommand

# option: what people call it elsewhere
MEANT = {
    "--out": ("output", "output-dir", "outdir", "dir", "directory", "save", "file", "picture",
              "plot", "svg", "o"),
    "--weights": ("checkpoint", "ckpt", "pretrained", "state-dict", "w"),
    "--shape": ("input-shape", "input-size", "image-size", "img-size", "imgsz", "resolution",
                "size", "input"),
    "--labels": ("classes", "class-names", "names", "label-file", "l"),
    "--set": ("num-classes", "option", "config", "width"),
    "--network": ("model", "net", "arch"),
    "--images": ("image", "photos", "folder", "data", "image-dir"),
    "--precision": ("dtype", "type", "quantize", "quantise", "half", "bits"),
    "--threads": ("num-threads", "jobs", "t", "j"),
    "--rounds": ("iterations", "runs", "repeat", "repeats"),
    "--peers": ("runtime", "runtimes", "backends", "against"),
    "--target": ("device", "platform", "cpu", "march", "triple"),
    "--optimize": ("optimise", "opt"),
    "--until": ("end", "last", "stop", "cut", "output-layer", "up-to"),
    "--tolerance": ("tol", "threshold"),
    "--layer": ("module", "layer-name", "layers"),
    "--top": ("topk", "top-k", "k"),
    "--json": ("as-json", "format"),
    "--object-size": ("object",),
}  # fmt: skip
# what a verb may take as an argument, by the option that others have for it
ARGUMENTS = {"--network": {"network", "networks", "first"}, "--images": {"images", "image"}}


class Verb(TyperCommand):
    """A command whose errors name the option that was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as every command does; raises its error, which may know more."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # click's, of which typer has a copy of its own
            wrong = getattr(error, "option_name", None)
            if isinstance(wrong, str) and hasattr(error, "possibilities"):
                self._advise(error, wrong)
            raise

    def _advise(self, error: Any, wrong: str) -> None:
        """Put what was meant into an error about an unknown option."""
        options = {name for parameter in self.params for name in parameter.opts}
        arguments = {
            parameter.name for parameter in self.params if parameter.name in parameter.opts
        }
        word = wrong.lstrip("-").replace("_", "-").lower()
        for right, others in MEANT.items():
            if word not in (*others, right.lstrip("-")):
                continue
            if right in options:
                error.possibilities = [right]
            elif given := arguments & ARGUMENTS.get(right, set()):
                (name,) = given
                error.possibilities = []
                error.message = (
                    f"No such option: {wrong}. It is given without one: "
                    f"depthwise {self.name} {name.upper()}"
                )
