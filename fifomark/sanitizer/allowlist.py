"""Which globals a model file may name, how, and why that is safe, each by its full name. Everything that is not here is unsafe.

Nothing on these lists is ever imported or called by us: to be listed means that a file is not refused for naming it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Block(NamedTuple):
    """`uses`: those of torchfile.description.GlobalUse, "reference" apart: whatever is used is also referred to, and may be."""

    uses: frozenset[str]
    reason: str


def _block(uses: str, reason: str, names: Iterable[str]) -> Iterator[tuple[str, Block]]:
    return ((name, Block(frozenset(uses.split()), reason)) for name in names)


def _in(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_STORAGES = _in(
    "torch", "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat QInt8 QUInt8 QInt32 QUInt4x2 QUInt2x4"
)
_DTYPES = _in(
    "torch",
    "float16 float32 float64 bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128 "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 qint8 quint8 qint32 quint4x2 quint2x4",
)
_ACTIVATIONS = (
    "relu relu6 gelu silu mish leaky_relu elu selu celu tanh sigmoid softmax log_softmax softplus softsign hardtanh hardswish hardsigmoid "
    "logsigmoid tanhshrink rrelu prelu glu"
)
# Pure functions of tensors: nothing that reads a file (torch.from_file), runs what it is given, or makes one of any size.
_OPERATIONS = (
    "abs acos add amax amin argmax argmin asin atan bmm cat clamp cos cosh div einsum erf exp expm1 flatten log log1p logsumexp matmul "
    "maximum max mean minimum min mm mul neg norm pow reciprocal reshape round rsqrt sign sin sinh sqrt square squeeze stack std sub sum "
    "tan transpose unsqueeze var where adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d conv1d conv2d conv3d cosine_similarity dropout "
    "max_pool1d max_pool2d max_pool3d"
)
_FUNCTIONS = (
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d alpha_dropout "
    "avg_pool1d avg_pool2d avg_pool3d batch_norm binary_cross_entropy binary_cross_entropy_with_logits conv1d conv2d conv3d "
    "cosine_embedding_loss cosine_similarity cross_entropy ctc_loss dropout dropout1d dropout2d dropout3d embedding gaussian_nll_loss "
    "group_norm gumbel_softmax hardshrink hinge_embedding_loss huber_loss instance_norm interpolate kl_div l1_loss layer_norm linear "
    "local_response_norm log_sigmoid margin_ranking_loss mse_loss multi_head_attention_forward multi_margin_loss multilabel_margin_loss "
    "multilabel_soft_margin_loss nll_loss normalize one_hot pad pairwise_distance pixel_shuffle pixel_unshuffle poisson_nll_loss rms_norm "
    "scaled_dot_product_attention smooth_l1_loss soft_margin_loss softmin softshrink threshold triplet_margin_loss unfold fold upsample"
)
_INITIALISERS = (
    "constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ sparse_ trunc_normal_ uniform_ xavier_normal_ "
    "xavier_uniform_ zeros_"
)
_HOMES_OF_FUNCTIONS = _in("torch._C", "_VariableFunctionsClass _VariableFunctions TensorBase _TensorBase")
_LAYERS = {
    "activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish MultiheadAttention "
    "PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold",
    "adaptive": "AdaptiveLogSoftmaxWithLoss",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
    "channelshuffle": "ChannelShuffle",
    "container": "Container ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "distance": "CosineSimilarity PairwiseDistance",
    "dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "flatten": "Flatten Unflatten",
    "fold": "Fold Unfold",
    "instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    "linear": "Bilinear Identity Linear NonDynamicallyQuantizableLinear _LinearWithBias",
    "loss": "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss "
    "L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss "
    "SmoothL1Loss SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss",
    "module": "Module",
    "normalization": "CrossMapLRN2d GroupNorm LayerNorm LocalResponseNorm RMSNorm",
    "padding": "CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d ReflectionPad2d "
    "ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d",
    "pixelshuffle": "PixelShuffle PixelUnshuffle",
    "pooling": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d "
    "AvgPool2d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d "
    "MaxUnpool2d MaxUnpool3d",
    "rnn": "GRU GRUCell LSTM LSTMCell RNN RNNBase RNNCell RNNCellBase",
    "sparse": "Embedding EmbeddingBag",
    "transformer": "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer",
    "upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
}

BUILDING_BLOCKS: Mapping[str, Block] = dict(
    [
        *_block(
            "call",
            "makes a tensor that views a storage",
            _in(
                "torch._utils",
                "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
                "_rebuild_sparse_tensor _rebuild_nested_tensor _rebuild_qtensor _rebuild_meta_tensor_no_storage "
                "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor",
            ),
        ),
        *_block(
            "call", "makes a tensor by a rebuilder that is a global of its own, judged like any", ["torch._tensor._rebuild_from_type_v2"]
        ),
        *_block("storage", "the type of a storage: raw numbers", [f"{name}Storage" for name in _STORAGES]),
        *_block("storage", "the type of a storage: raw numbers", [f"{name}Storage".replace("torch.", "torch.cuda.") for name in _STORAGES]),
        *_block("storage", "the type of a storage: raw bytes", ["torch.storage.UntypedStorage", "torch.UntypedStorage"]),
        *_block("dtype", "a dtype: a constant", _DTYPES),
        *_block("call new", "an ordered dict, what state_dict() returns", ["collections.OrderedDict"]),
        *_block("call new", "a dict; its factory is a global of its own, judged like any", ["collections.defaultdict"]),
        *_block("call new", "a dict of counts, as a scheduler keeps its milestones", ["collections.Counter"]),
        *_block("call", "a set: a module's names of non-persistent buffers", ["builtins.set", "builtins.frozenset"]),
        *_block("", "a type, as the factory of a defaultdict", _in("builtins", "dict list int float str bool")),
        *_block("call new", "a shape: a tuple of integers", ["torch.Size"]),
        *_block("call", "a device's name: a constant", ["torch.device"]),
        *_block("call", "a tensor's layout: a constant", ["torch.serialization._get_layout"]),
        *_block("", "a type, as a rebuilder is told it", ["torch.Tensor", *_in("torch.nn.parameter", "Parameter Buffer")]),
        *_block(
            "call",
            "a parameter that a lazy layer has not yet made",
            _in("torch.nn.parameter", "UninitializedParameter UninitializedBuffer"),
        ),
        *_block("", "how a quantized tensor is scaled: a constant", _in("torch", "per_tensor_affine per_channel_affine")),
        *_block("", "a function of tensors, kept by a module as an attribute", _in("torch.nn.functional", f"{_ACTIVATIONS} {_FUNCTIONS}")),
        *_block("", "a function of tensors, kept by a module as an attribute", _in("torch._C._nn", f"{_ACTIVATIONS} {_FUNCTIONS}")),
        *_block("", "an initialiser, kept by a module as an attribute", _in("torch.nn.init", _INITIALISERS)),
        *_block("", "where torch keeps its functions", _HOMES_OF_FUNCTIONS),
        *_block(
            "",
            "a function of tensors, kept by a module as an attribute",
            [name for home in _HOMES_OF_FUNCTIONS for name in _in(home, f"{_ACTIVATIONS} {_OPERATIONS}")],
        ),
        *_block("module", "a stock layer", [name for file, names in _LAYERS.items() for name in _in(f"torch.nn.modules.{file}", names)]),
        *_block(
            "module", "a stock wrapper of a model", ["torch.nn.parallel.data_parallel.DataParallel", "torch.optim.swa_utils.AveragedModel"]
        ),
        *_block(
            "call",
            "a typed list or dict in a TorchScript archive",
            _in(
                "torch.jit._pickle", "build_intlist build_doublelist build_boollist build_tensorlist build_tensor_from_id restore_type_tag"
            ),
        ),
    ]
)


# Seen in honest checkpoints beside the weights, in these uses, and with the arguments that torchfile.arguments knows: dropped, and that is
# said. In any other use a name of these may do harm as well.
PLAIN_DATA: Mapping[str, Block] = dict(
    [
        *_block("call", "a number of numpy's", ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]),
        *_block("call", "an array of numpy's", ["numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"]),
        *_block("call", "an array of numpy's", ["numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"]),
        *_block("call", "a masked array of numpy's", ["numpy.ma.core._mareconstruct"]),
        *_block("", "the type of numpy's arrays", _in("numpy", "ndarray matrix ma.MaskedArray ma.core.MaskedArray")),
        *_block("call", "a dtype of numpy's", ["numpy.dtype"]),
        *_block(
            "",
            "a type of numpy's",
            _in(
                "numpy",
                "bool bool_ float16 float32 float64 longdouble complex64 complex128 clongdouble int8 int16 int32 int64 longlong "
                "uint8 uint16 uint32 uint64 ulonglong str_ bytes_ datetime64 timedelta64 void object_",
            ),
        ),
        *_block(
            "call",
            "a random generator of numpy's",
            _in(
                "numpy.random",
                "_pickle.__generator_ctor _pickle.__bit_generator_ctor _pickle.__randomstate_ctor "
                "bit_generator.__pyx_unpickle_SeedSequence",
            ),
        ),
        *_block("", "a random generator of numpy's", _in("numpy.random", "_pcg64.PCG64 _mt19937.MT19937 bit_generator.SeedSequence")),
        *_block("call", "a random generator", ["torch._C.Generator"]),
        *_block("call", "bytes, as old pickles write them", ["_codecs.encode", "builtins.bytes", "builtins.bytearray"]),
        *_block("call", "a number", ["builtins.complex", "decimal.Decimal", "fractions.Fraction"]),
        *_block("call", "a range", ["builtins.slice", "builtins.range"]),
        *_block("call new", "command-line arguments", ["argparse.Namespace"]),
        *_block("call", "a time", _in("datetime", "datetime date time timedelta timezone")),
        *_block("call new", "a path", _in("pathlib", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath")),
        *_block("call new", "a path", _in("pathlib._local", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath")),
        *_block("new", "an identifier", ["uuid.UUID"]),
        *_block("call", "a list with two ends", ["collections.deque"]),
        *_block("call", "a pattern of text", ["re._compile"]),
        *_block("call", "a class of torch's with some of its arguments", ["functools.partial"]),
        *_block("new", "sequences of several lengths", ["torch.nn.utils.rnn.PackedSequence"]),
        *_block("call new", "a configuration", ["types.SimpleNamespace", "easydict.EasyDict", "addict.addict.Dict", "yacs.config.CfgNode"]),
        *_block("", "a type in a configuration", ["typing.Any"]),
        *_block("new", "a configuration of omegaconf's", _in("omegaconf", "dictconfig.DictConfig listconfig.ListConfig base.Metadata")),
        *_block("call new", "a configuration of omegaconf's", _in("omegaconf.base", "ContainerMetadata SCMode")),
        *_block(
            "new",
            "a configuration of omegaconf's",
            _in("omegaconf.nodes", "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode PathNode"),
        ),
        *_block("call new", "the version of torch", ["torch.torch_version.TorchVersion"]),
        *_block(
            "call new",
            "hyper-parameters of Lightning's",
            [f"{home}.utilities.parsing.AttributeDict" for home in ("pytorch_lightning", "lightning.pytorch")],
        ),
        *_block(
            "call new",
            "hyper-parameters of Lightning's",
            [f"{home}.utilities.data.AttributeDict" for home in ("lightning_fabric", "lightning.fabric")],
        ),
        *_block(
            "new",
            "a callback of Lightning's",
            [
                f"{home}.callbacks.{callback}"
                for home in ("pytorch_lightning", "lightning.pytorch")
                for callback in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
            ],
        ),
        *_block("new", "a hook of a normalised weight", _in("torch.nn.utils", "weight_norm.WeightNorm spectral_norm.SpectralNorm")),
        *_block(
            "new",
            "a hook of a normalised weight",
            _in("torch.nn.utils.spectral_norm", "SpectralNormLoadStateDictPreHook SpectralNormStateDictHook"),
        ),
        *_block(
            "new",
            "a mask of a pruned weight",
            _in(
                "torch.nn.utils.prune",
                "CustomFromMask Identity L1Unstructured LnStructured PruningContainer RandomStructured RandomUnstructured",
            ),
        ),
        *_block("call", "what layers of torch before 1.2 name beside their weights", ["torch.nn.backends.thnn._get_thnn_function_backend"]),
        *_block(
            "call new",
            "what pyannote keeps beside its weights",
            _in("pyannote.audio.core", "model.Introspection task.Specifications task.Problem task.Resolution task.Scale"),
        ),
        *_block("new", "a hook of a layer", ["torch.nn.modules.module._WrappedHook"]),
        *_block(
            "new",
            "an optimizer",
            _in(
                "torch.optim",
                "adadelta.Adadelta adagrad.Adagrad adam.Adam adamax.Adamax adamw.AdamW asgd.ASGD lbfgs.LBFGS nadam.NAdam radam.RAdam "
                "rmsprop.RMSprop rprop.Rprop sgd.SGD sparse_adam.SparseAdam",
            ),
        ),
        *_block(
            "new",
            "a scheduler",
            _in(
                "torch.optim.lr_scheduler",
                "ChainedScheduler ConstantLR "
                "CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR MultiStepLR OneCycleLR "
                "PolynomialLR ReduceLROnPlateau SequentialLR StepLR",
            ),
        ),
        *_block(
            "",
            "how a scheduler's cycles shrink",
            _in("torch.optim.lr_scheduler.CyclicLR", "_triangular_scale_fn _triangular2_scale_fn _exp_range_scale_fn"),
        ),
    ]
)

# A class from one of these that is not listed above is never taken for somebody's own network: their classes may do anything when they are
# given attributes or thrown away. Packages that are made of networks (torchvision, timm, transformers) are left out on purpose.
_KNOWN_PACKAGES = sys.stdlib_module_names | {
    *(
        "torch",
        "functorch",
        "torchgen",
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "joblib",
        "dill",
        "cloudpickle",
        "jax",
        "tensorflow",
        "keras",
    ),
    *("pip", "setuptools", "pkg_resources", "wheel", "_distutils_hack", "pytest", "_pytest", "IPython", "ipykernel", "requests", "urllib3"),
    *(
        "aiohttp",
        "yaml",
        "jinja2",
        "flask",
        "django",
        "cffi",
        "numba",
        "sympy",
        "matplotlib",
        "PIL",
        "psutil",
        "fsspec",
        "networkx",
        "mpmath",
    ),
    *(
        "filelock",
        "tqdm",
        "rich",
        "hypothesis",
        "lightning_utilities",
        "safetensors",
        "wandb",
        "torchmetrics",
        "huggingface_hub",
        "pexpect",
    ),
    *("tensorboard", "tensorboardX", "mlflow", "ptyprocess", "msgspec", "typer", "click", "watchdog", "ml_dtypes", "portalocker", "zict"),
    *("distutils", "cloud", "fabric", "paramiko", "sqlalchemy", "tornado", "twisted", "zmq", "ray", "dask", "fifomark"),
}


def from_unknown_package(name: str) -> bool:
    """Whether a global is of a module that is neither the standard library's nor a known package's; a script's own `__main__` is none."""
    top = name.partition(".")[0]
    return top == "__main__" or top not in _KNOWN_PACKAGES
