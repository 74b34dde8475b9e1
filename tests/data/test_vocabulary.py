from tbkin.data.processing_tbkin import build_tokenizer
from tbkin.data.vocabulary import add_words


def ids(tokenizer, text):
    return tokenizer(text.split(), is_split_into_words=True)["input_ids"]


def test_new_words_come_behind_the_old_ones(tmp_path):
    first, second = build_tokenizer([["red", "dog"]]), build_tokenizer([["a", "dog", "Zebra"]])
    longer, count = add_words(first, second)
    assert count == 2
    # [PAD] [UNK] [CLS] [SEP] [MASK] dog red | a zebra
    assert ids(longer, "red dog a zebra cat") == [2, 6, 5, 7, 8, 1, 3]
    assert ids(first, "red dog a zebra cat") == [2, 6, 5, 1, 1, 1, 3]
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(longer, f"{name}_token_id") == getattr(first, f"{name}_token_id")
    longer.save_pretrained(tmp_path)
    again = type(longer).from_pretrained(tmp_path)
    assert ids(again, "A zebra") == ids(longer, "A zebra")
    assert again.mask_token_id == 4


def test_known_words_change_nothing():
    first = build_tokenizer([["red", "dog"]])
    same, count = add_words(first, build_tokenizer([["dog"]]))
    assert (same, count) == (first, 0)


def test_new_words_never_take_the_number_of_an_added_token():
    first = build_tokenizer([["red"]])
    first.add_tokens(["<dog>"])  # number 6, behind the vocabulary
    longer, _ = add_words(first, build_tokenizer([["zebra"]]))
    codes = list(longer.get_vocab().values())
    assert len(codes) == len(set(codes))
    assert ids(longer, "zebra") == [2, 7, 3]
