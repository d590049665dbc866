"""What the unmixing networks have in common: trained on the scene in rounds, or taken from weights in the authors' layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import BandRule, Input, Method, Output, Round, Scale, SceneInfo, Size, Source, State
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch
from torchspectral.learn.on_scene import FitPlan, SceneObjective, train_on_scene
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.vca_fcls import VcaSettings, endmember_names, find_endmembers
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check


class NetworkSettings(Settings):
    """Settings that every unmixing network has."""

    k: int | Literal["auto"] | None = setting(
        None,
        'endmembers, at least 2; "auto" counts signal dimensions by HySime, an upper bound on real scenes; needed '
        "where neither weights nor a library tell it",
    )
    gain: float = setting(
        0.0, "values are divided by it for the network; 0: 1 for reflectance, else the scene's largest value", ge=0
    )


class SceneNetwork(Method):
    """Base of the unmixing networks.

    `fit` finds a start (endmembers by VCA where the paper starts from them), trains the network on the scene and
    yields rounds that are journaled. Given weights in the authors' layout are not trained further by networks that
    read the image; those that draw it out of noise take them as their start.

    State
    -----
    The network's weights under the authors' names, and ``endmembers`` (k, bands), ``endmember_names``, ``losses``.
    """

    Settings: ClassVar[type[Settings]] = NetworkSettings
    inputs: tuple[Input, ...] = (Input("cube"),)
    outputs: tuple[Output, ...] = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",)),
        Output("endmembers", kind="spectra", names="=endmember_names", from_state=True),
    )
    bands = BandRule(least=2)
    needs_fit = True
    starts_from_state = True
    name: ClassVar[str] = ""
    network: ClassVar[type[nn.Module]] = nn.Module
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("decoder.weight", 0), "k": ("decoder.weight", 1)}
    """Number of bands and endmembers: a tensor of the weights, and the axis whose length it is."""
    ignored: ClassVar[tuple[str, ...]] = ()
    """Beginnings of keys that the authors' files hold and nothing uses."""
    reads_image: ClassVar[bool] = True
    """Whether the image is the network's input, so that trained weights work without a fit."""
    smallest: int = 1
    """Least rows and columns that the layers can stand."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        k = self.settings.k
        if isinstance(k, int) and k < 2:
            raise BadSettings(f"got k={k}, expected at least 2 endmembers: one leaves nothing to unmix")
        self._built: tuple[tuple[tuple[str, Any], ...], nn.Module] | None = None

    def prepare(self, info: SceneInfo) -> None:
        """Set the working scale; refuse scenes that are too small for the layers."""
        gain = self.settings.gain or (1.0 if info.quantity == "reflectance" else 0.0)
        self.scale = Scale("fixed", gain=gain) if gain else Scale("max")
        if min(info.shape) < self.smallest:
            raise BadInput(
                f"got a scene of {info.shape[0]} x {info.shape[1]} pixels, expected at least {self.smallest} on each "
                f"side for {self.name}"
            )

    # What a network says of itself

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Constructor arguments of the network."""
        return {"bands": bands, "k": k}

    def begin(self, network: nn.Module, start: State) -> None:
        """Put the start into a fresh network (endmembers into its decoder)."""

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """What the network is trained for."""
        raise NotImplementedError

    def plan(self, objective: SceneObjective) -> FitPlan:
        """Steps and rates."""
        raise NotImplementedError

    def found(
        self, network: nn.Module, source: Source, start: State, objective: SceneObjective | None
    ) -> Mapping[str, Any]:
        """Entries of the finished state beside weights and names: at least ``endmembers`` (k, bands).

        `objective` is None where weights were given and nothing was trained.
        """
        raise NotImplementedError

    @classmethod
    def settings_of(cls, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that weights decide: the sizes of their network."""
        return {}

    # Fitting

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Train on the scene, or complete given weights; a round is half a percent of the steps."""
        found = dict(state or {})
        bands = source.info.bands
        if "endmembers" in found:
            self.check_state(found, bands)
            yield found, 1.0
            return
        running = found.pop("running", None)
        weights = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
        if running:
            start, weights = running["start"], {}
        else:
            start = self.start_from(weights, source) if weights else self.start(source, seed)
        network = self.fresh(bands, start, seed)
        if weights:
            network.load_state_dict(self.fitting(weights, network))
        network = network.to(self._device(source, start))
        objective, losses = None, []
        if self.reads_image and weights:
            network.eval()
        else:
            objective = self.objective(network, source, start, seed)
            losses = yield from train_on_scene(
                network, objective, self.plan(objective), seed, running, {"start": start}
            )
            network.eval()
        with torch.no_grad():
            extra = dict(self.found(network, source, start, objective))
        done = {key: value.detach() for key, value in network.state_dict().items()}
        facts = {key: start[key] for key in ("counts", "pixels") if start.get(key)}
        yield {**done, "endmember_names": start["endmember_names"], "losses": losses, **facts, **extra}, 1.0

    def start(self, source: Source, seed: int) -> State:
        """Endmembers by VCA, in the working scale: ``endmembers`` (k, bands) and ``endmember_names``.

        Raises
        ------
        BadSettings, BadInput
        """
        return find_endmembers(source, seed, VcaSettings.make({"k": self.needed_k()}))

    def needed_k(self) -> int | str:
        """The setting k.

        Raises
        ------
        BadSettings
            It is not given.
        """
        if self.settings.k is None:
            raise BadSettings(
                f"{self.name} needs k, the number of endmembers: give k=NUMBER, or k=auto to count signal dimensions"
            )
        return self.settings.k

    def start_from(self, weights: State, source: Source) -> State:
        """What given weights say of the start.

        Raises
        ------
        BadWeights, BandMismatch, BadSettings
        """
        bands, k = self.sizes_of(weights, source.info.bands)
        if isinstance(self.settings.k, int) and self.settings.k != k:
            raise BadSettings(f"got k={self.settings.k} and weights for {k} endmembers, expected one of them")
        return {"k": k, "bands": bands, "endmember_names": endmember_names(k)}

    def sizes_of(self, weights: Mapping[str, Any], bands: int) -> tuple[int, int]:
        """Bands and endmembers that weights are for.

        Raises
        ------
        BadWeights, BandMismatch
        """
        found = []
        for key, axis in (self.sizes["bands"], self.sizes["k"]):
            tensor = weights.get(key)
            if not isinstance(tensor, torch.Tensor) or tensor.ndim <= axis:
                raise BadWeights(f"got weights without {key}, expected those of {self.name}: see torchspectral weights")
            found.append(int(tensor.shape[axis]))
        if found[0] != bands:
            raise BandMismatch(
                f"the weights are for {found[0]} bands and the scene has {bands}: select the bands that they were "
                "trained on (bands=), or leave the weights out and train on this scene"
            )
        return found[0], found[1]

    def fresh(self, bands: int, start: State, seed: int) -> nn.Module:
        """A network with fresh weights that follow from the seed, and the start put in."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.network(**self.arguments(bands, len(start["endmember_names"])))
        if "endmembers" in start:
            with torch.no_grad():
                self.begin(network, start)
        return network

    def fitting(self, weights: Mapping[str, Any], network: nn.Module) -> dict[str, torch.Tensor]:
        """The weights for a network, all of them and no others.

        Raises
        ------
        BadWeights
        """
        own = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        used = {key: value for key, value in weights.items() if key in own or not key.startswith(self.ignored)}
        # Counters of batches do not stand in files of every version of torch.
        card = WeightsCard(name=self.name, optional_keys=[r".*num_batches_tracked"])
        check(used, own, card, f"weights of {self.name}")
        return {key: used[key] if key in used else network.state_dict()[key] for key in own}

    def check_state(self, state: State, bands: int) -> None:
        """Refuse a finished state of other bands or another network.

        Raises
        ------
        BadWeights, BandMismatch
        """
        _, k = self.sizes_of(state, bands)
        names = state.get("endmember_names")
        if names is None or len(names) != len(state["endmembers"]):
            raise BadWeights(f"got a state without a name for each of {k} endmembers, expected one of {self.name}")
        self.loaded(state, bands)

    # Applying

    def loaded(self, state: State, bands: int, like: torch.Tensor | None = None) -> Trained:
        """The network with the weights of a state.

        Raises
        ------
        BadWeights, BandMismatch
        """
        _, k = self.sizes_of(state, bands)
        key = tuple(sorted(self.arguments(bands, k).items()))
        if self._built is None or self._built[0] != key:
            with torch.device("meta"):
                self._built = key, self.network(**dict(key)).eval()
        module = self._built[1]
        own = module.state_dict()
        weights = {name: state[name] for name in own if isinstance(state.get(name), torch.Tensor)}
        check(
            weights, {n: tuple(t.shape) for n, t in own.items()}, WeightsCard(name=self.name), f"state of {self.name}"
        )
        if like is not None:
            weights = {n: t.to(like) if t.is_floating_point() else t.to(like.device) for n, t in weights.items()}
        return Trained(module, weights)

    def figures(self, state: State) -> dict[str, Any]:
        """Endmembers, losses on the way and number of weights."""
        losses = list(state.get("losses", []))
        found: dict[str, Any] = {"k": len(state["endmember_names"])}
        found |= {key: state[key] for key in ("counts", "pixels") if state.get(key)}
        if losses:
            found |= {"losses": losses, "first loss": losses[0], "last loss": losses[-1]}
        return found

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the layers with their gradients for `fit`, of one pass for `apply`."""
        raise NotImplementedError

    def known_k(self) -> int:
        """Endmembers, for estimates of memory before they are known."""
        return self.settings.k if isinstance(self.settings.k, int) else 20

    @staticmethod
    def _device(source: Source, start: State) -> torch.device:
        return next(iter(source.tiles())).lead.device


class Trained:
    """A network in evaluation mode with weights of its own: called like a module, without gradients."""

    def __init__(self, module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
        self.module, self.weights = module, dict(weights)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Call the network."""
        with torch.no_grad():
            return torch.func.functional_call(self.module, self.weights, inputs)


def residual(cube: torch.Tensor, model: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Root mean square difference over the bands; the axis stays."""
    return (cube - model).square().mean(dim, keepdim=True).sqrt()


def shares(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Non-negative values divided by their sum; equal shares where all are zero."""
    total = values.sum(dim, keepdim=True)
    empty = total <= 0
    return torch.where(empty, 1.0 / values.shape[dim], values / torch.where(empty, 1.0, total))
