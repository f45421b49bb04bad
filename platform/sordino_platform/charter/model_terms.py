"""The model that is trained: our own, or adapters on another base. Each is named by the digest of its files."""

from __future__ import annotations

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sordino_platform.architecture import HuggingFaceConfig, ModelConfig, Trainable
from sordino_platform.canonical import Digest, Document


class ModelTerms(Document):
    """The model that is trained: architecture, trained subset, the public base it starts from, the tokenizer."""

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    hidden: int
    rope_base: float = Field(gt=0, le=1e9)
    adapter_rank: int
    embedding_rank: int = 0
    adapter_scale: float = Field(default=1.0, gt=0, le=100)
    trainable: Trainable
    base_sha256: Digest
    tokenizer_sha256: Digest

    @model_validator(mode="after")
    def _possible(self) -> ModelTerms:
        self.config()
        return self

    @classmethod
    def of(cls, config: ModelConfig, *, base_sha256: bytes, tokenizer_sha256: bytes) -> ModelTerms:
        """The terms of a configuration."""
        fields = {name: getattr(config, name) for name in ModelConfig.__slots__}
        return cls(**fields, base_sha256=base_sha256, tokenizer_sha256=tokenizer_sha256)

    def config(self) -> ModelConfig:
        """The architecture. Raises ConfigurationError when its sizes are impossible."""
        return ModelConfig(**self.model_dump(exclude={"base_sha256", "tokenizer_sha256"}))


class AdaptedLayer(Document):
    """A linear layer of a Hugging Face base that gets an adapter."""

    name: str = Field(min_length=1, max_length=240, pattern=r"^[A-Za-z0-9_.]+$")
    outputs: int
    inputs: int


class HuggingFaceTerms(Document):
    """A base, by the digest of its files, and the adapters that are trained on it. `name` is the founder's name for it:
    it helps people to find the base, and no check relies on it."""

    base_sha256: Digest
    name: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    vocabulary: int
    context: int
    end: int
    adapter_rank: int
    layers: tuple[AdaptedLayer, ...] = Field(min_length=1, max_length=1 << 14)

    @model_validator(mode="after")
    def _possible(self) -> HuggingFaceTerms:
        self.config()
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Terms without a name keep the bytes, and so the hash, that they had before the field existed.
        data: dict[str, object] = plain(self)
        return {name: value for name, value in data.items() if name != "name" or value is not None}

    @classmethod
    def of(cls, config: HuggingFaceConfig, *, name: str | None = None) -> HuggingFaceTerms:
        """The terms of a configuration."""
        return cls(
            name=name,
            base_sha256=bytes.fromhex(config.base_sha256),
            vocabulary=config.vocabulary,
            context=config.context,
            end=config.end,
            adapter_rank=config.adapter_rank,
            layers=tuple(
                AdaptedLayer(name=name, outputs=outputs, inputs=inputs)
                for name, outputs, inputs in config.targets
            ),
        )

    def config(self) -> HuggingFaceConfig:
        """The base and its adapters. Raises ConfigurationError when the sizes are impossible."""
        return HuggingFaceConfig(
            base_sha256=self.base_sha256.hex(),
            vocabulary=self.vocabulary,
            context=self.context,
            end=self.end,
            adapter_rank=self.adapter_rank,
            targets=tuple((layer.name, layer.outputs, layer.inputs) for layer in self.layers),
        )
