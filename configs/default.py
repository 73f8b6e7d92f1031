"""Every field that a config may set, with the paper's values; other configs override it.

Not a run of its own: `data.source` and `data.root` have no default.
"""

from ml_collections import ConfigDict, config_dict

# Fields by the names that they had before.
RENAMED = {
    "data.balance": "data.repeat_threshold",
    "optim.average_decay": "optim.ema_decay",
    "optim.base_rate": "optim.learning_rate",
    "optim.clip_norm": "optim.grad_clip_norm",
    "optim.encoder_factor": "optim.encoder_lr_mult",
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0

    config.model = ConfigDict()
    # resnet101, resnet50, resnet18, tiny; efficientnet_lite0, _lite1 or _lite2.
    config.model.encoder = "resnet101"
    config.model.stem = "deep"  # deep (three 3x3 convolutions) or conv7 (torchvision's 7x7)
    config.model.width = 1.0  # factor on all widths of encoder and heads
    config.model.output_stride = 8  # EfficientNet's: 8, 16 or 32; the others have 8
    config.model.dilated = True  # EfficientNet's convolutions where a stride is left out
    config.model.dual_graph = True  # in the context head; False: for comparison
    config.model.edge_feedback = False  # the edge branch's logits into the parsing head: likewise
    config.model.multi_scale_parsing = False  # the encoder's x3 and x4 into the parsing head too
    config.model.dtype = "float32"  # of activations; bfloat16 keeps float32 params and losses
    # ImageNet weights for the encoder: a file, or the name of an EfficientNet (extra efficientnet).
    config.model.pretrained = ""
    config.model.init_from = ""  # a checkpoint, or default, to fine-tune: same network
    config.model.license = ""  # of the weights that result: one sentence, kept in checkpoints

    config.data = ConfigDict()
    # synthetic, folder, prepared, or annotations: coco, labelme, cvat, labelstudio, masks.
    config.data.source = ""
    config.data.root = ""  # folder of images/ and labels/, or of a prepared set; A,B: both
    config.data.unannotated = "background"  # what annotations do not cover; or ignore
    # helen, lapa, celebamask_hq, face_synthetics or a label-name file; empty: the data's own, which
    # for a folder is its label_names.txt.
    config.data.label_set = ""
    config.data.sources = ConfigDict()  # further training data by a name of yours: see `source`
    config.data.repeat_threshold = 0.0  # repeats photographs of classes rarer than this; 0: none
    config.data.num_train_examples = 0  # drawn by the seed; 0: all
    config.data.label_noise = 0.0  # share of the training photographs whose labels are spoiled
    config.data.neighbour_prob = 0.0  # that a training photograph has another one at its side
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 473  # side of the square network input, pixels
    # Unset: complete images; else faces' boxes with this share of their longer side on each side.
    config.data.crop_margin = config_dict.placeholder(float)
    config.data.channel_order = "rgb"  # in which the network is fed; mean and std follow it
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.num_workers = 8  # reading processes; 0: two threads, best where CPUs train
    config.data.synthetic = ConfigDict()  # read where source is synthetic
    config.data.synthetic.train_examples = 512
    config.data.synthetic.eval_examples = 64
    config.data.synthetic.size = 128  # side of the drawn pictures, pixels

    config.augmentation = ConfigDict()
    config.augmentation.scale_std = 0.25
    config.augmentation.scale_min = 0.75
    config.augmentation.scale_max = 1.25
    config.augmentation.rotation_std = 30.0  # degrees
    config.augmentation.rotation_max = 60.0  # degrees
    config.augmentation.rotation_prob = 0.6
    config.augmentation.mirror_prob = 0.5
    config.augmentation.shift_std = 0.0  # share of the longer side; 0.05 as detectors' boxes
    config.augmentation.brightness = 0.0  # greatest change, as a share
    config.augmentation.contrast = 0.0
    config.augmentation.saturation = 0.0
    config.augmentation.scene_prob = 0.0  # that a drawn scene surrounds the photograph, not black
    config.augmentation.occlusion_prob = 0.0  # that drawn hands and things hide some of a view
    config.augmentation.degradation = ConfigDict()  # each to at most the strength given
    config.augmentation.degradation.prob = 0.0  # that a view is degraded, by one or more of these:
    config.augmentation.degradation.exposure = 1.5  # stops darker or brighter
    config.augmentation.degradation.gamma = 2.5  # exponent on the brightness, or its inverse
    config.augmentation.degradation.cast = 0.4  # change of one channel, as a share
    config.augmentation.degradation.grey = True
    config.augmentation.degradation.blur = 4.0  # standard deviation, pixels of the input
    config.augmentation.degradation.size = 48  # least side before it is enlarged again; 0: none
    config.augmentation.degradation.noise = 20.0  # standard deviation, of 255
    config.augmentation.degradation.jpeg = 15  # least quality; 0: none

    config.loss = ConfigDict()
    config.loss.weights = ConfigDict()  # of each term in the total
    config.loss.weights.cross_entropy = 2.0
    config.loss.weights.lovasz = 2.0
    config.loss.weights.binary_edge = 1.0
    config.loss.weights.category_edge = 0.2
    config.loss.weights.attention_binary = 4.0
    config.loss.weights.attention_category = 1.0
    config.loss.weights.marginal = 2.0  # of labels that mean one of several classes: data.sources
    config.loss.weights.consistency = 0.0  # of a teacher's view of what labels leave open; 0: none
    config.loss.confidence = 0.9  # least probability at which that teacher counts
    config.loss.lovasz = "exact"  # or binned: without sorting, for accelerators
    config.loss.resolution = 1.0  # share of the input's resolution at which losses are taken
    config.loss.edge_width = 1  # dilation of the edge targets, pixels

    config.optim = ConfigDict()
    config.optim.name = "sgd"  # sgd or adamw
    config.optim.learning_rate = 1e-3  # at base_batch_size; scaled linearly with the batch size
    config.optim.base_batch_size = 28
    config.optim.momentum = 0.9  # adamw's decay of the mean gradient
    config.optim.encoder_lr_mult = 1.0  # on the rate of the encoder
    config.optim.grad_clip_norm = 0.0  # greatest norm of the gradient; 0: not clipped
    config.optim.ema_decay = 0.0  # of the average of weights that is evaluated; 0: none
    config.optim.weight_decay = 5e-4
    config.optim.warmup_epochs = 10

    config.train = ConfigDict()
    config.train.batch_size = 28  # global, over all devices
    config.train.num_epochs = 200

    config.csr = ConfigDict()  # cyclical self-regulation
    config.csr.start_epoch = 150  # equal to train.num_epochs: no self-regulation
    config.csr.cycle_epochs = 10
    config.csr.restart_factor = 0.5  # of the base rate, at which each cycle begins
    config.csr.average = True  # the teacher is the mean of the students; False: the last of them
    config.csr.soft_targets = True  # False: the labels alone, also where there is a teacher

    config.eval = ConfigDict()
    config.eval.batch_size = 28  # global, over all devices
    config.eval.every_epochs = 10  # of the student; teachers are evaluated as they are made
    config.eval.flip = False  # average with the mirrored image
    config.eval.scales = (1.0,)  # average over these scales of the input

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1
    config.checkpoint.keep = 2  # newest of the run, 2 or more; best and teachers are kept apart

    config.log = ConfigDict()
    config.log.every_steps = 50
    config.log.panels_every_epochs = 10
    config.log.panel_images = 4

    config.mesh = ConfigDict()
    config.mesh.fsdp = False  # shard parameters and optimiser over the devices
    return config


def source(share: float) -> ConfigDict:
    """Returns one of `config.data.sources`, which takes this share of every batch.

    What the shares leave is `data.root`'s, whose epochs are counted and whose `data.eval_split` is
    evaluated; `repeat_threshold`, `num_train_examples`, `label_noise` and `neighbour_prob` are
    about `data.root` alone.
    """
    data = ConfigDict()
    # All but synthetic as data.source; points: images/ and points.csv; images: without labels,
    # which needs loss.weights.consistency; scenes: drawn, no face.
    data.kind = "folder"
    data.root = ""  # as data.root; of scenes none
    data.split = "train"
    # Other labels than data.label_set's become groups of its classes: see LabelSet.means.
    data.label_set = ""  # but of points, images and scenes
    data.share = share
    data.augmentation = ConfigDict()  # fields that differ from config.augmentation's
    return data
