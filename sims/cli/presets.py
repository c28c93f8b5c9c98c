"""The command that lists published hyperparameters."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic's models are slow to make
    from editing.hyperparameters.presets import Preset

HOST = "https://github.com/"

app = typer.Typer()


@app.command("presets")
def list_presets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET]", help="Show all that one of them says."),
    ] = None,
) -> None:
    """List the published hyperparameters that `editing.hyperparameters` may name.

    A model whose hub name or folder has the name of a preset takes it by itself.
    """
    from editing.hyperparameters.presets import preset_names, read_preset

    if name is not None:
        show_preset(read_preset(name))
        return
    show_table([read_preset(each) for each in preset_names()])


def show_table(presets: "list[Preset]") -> None:
    """Print a row for each preset."""
    from rich.table import Table

    from sims.console import open_console

    table = Table(box=None, pad_edge=False)
    for heading in ("preset", "layers", "λ", "v_lr", "source"):
        table.add_column(heading, overflow="fold")
    for preset in presets:
        found = preset.parameters
        table.add_row(
            preset.name,
            say_layers(found.layers),
            f"{found.mom2_update_weight:g}"
            + ("" if "mom2_update_weight" in preset.values else " (default)"),
            f"{found.v_lr:g}",
            preset.source.removeprefix(HOST).replace("/blob/main/", ": "),
        )
    open_console().print(table, highlight=False, markup=False)


def show_preset(preset: "Preset") -> None:
    """Print every value of a preset, and where it is from."""
    from sims.console import open_console

    lines = [f"{preset.name}: {preset.model}", f"source: {preset.source}"]
    lines += [f"note: {preset.note}"] if preset.note else []
    for field, value in preset.parameters.model_dump(mode="json").items():
        if field in preset.values:
            other = preset.sources.get(field)
            lines.append(f"  {field} = {value}" + (f"  ({other})" if other else ""))
    open_console().print(
        "\n".join(lines), soft_wrap=True, highlight=False, markup=False
    )


def say_layers(layers: tuple[int, ...]) -> str:
    """Write a row of layers without gaps by its ends."""
    first, last = layers[0], layers[-1]
    if len(layers) > 1 and layers == tuple(range(first, last + 1)):
        return f"{first}–{last}"
    return ", ".join(map(str, layers))
