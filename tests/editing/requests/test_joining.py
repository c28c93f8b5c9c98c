"""Laws of joining: a target follows its prompt as running text has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.requests.joining import split_running_text, wants_space

TEXTS = st.text(min_size=1).filter(str.strip)


@pytest.mark.parametrize(
    "running",
    [
        "Ada works for| Acme",
        "What is it?| Acme",
        "It is called, of course,| Acme",
        "Born in 1980| Ada",
        "서울은| 한국",
        "Анна живёт в| Осло",
        "اسمها| آدا",
        "चेन्नई| भारत",
        "張偉的母語是|中文",
        "张伟的母语是|中文",
        "张伟在|Acme",
        "CEO是张伟的Acme|公司",
        "她的名字是：|张伟",  # noqa: RUF001 - such marks are meant
        "Her name is| 张伟",
        "彼の名前は|タロウ",
        "ชื่อของเขาคือ|สมชาย",
        "ຊື່ຂອງລາວ|ສົມ",
        "ឈ្មោះ|សុខ",
        "သူ့နာမည်|အောင်",
        "བོད་|ལྷ་ས་",
        'The motto of Ada is "|onward',
        'The band "Ada"| plays',
        'He says:"|onward',
        "他说“|好",
        '他说"|好',
        "The motto is “|onward",
        "The motto is ‘|onward",  # noqa: RUF001 - such marks are meant
        "The motto is '|onward",
        "Le mot est «|oui",
        "Das Wort ist „|ja",
        "Das Wort „ja“| bleibt",
        "Das Wort ist »|ja",
        "Le mot «oui»| reste",
        "The song 'Ada'| is",
        "The Beatles'| drummer",
        "Ada's| dog",
        "la capitale de l'|Italie",
        "la capitale dell’|Italia",  # noqa: RUF001 - such marks are meant
        "She is (|Ada",
        "She is [|Ada",
        "(She is)| Ada",
        "¿|Quién",
        "The Franco-|Prussian",
        "Answer: -| Ada",
        "1990–|1995",
        "Ada —| Bo",
        "and/|or",
        "It costs $|5",
        "It costs 5 €| more",
        "user @|ada",
        "<|im_start|>assistant\n|Acme",
        "<|assistant|>|Acme",
        "<｜Assistant｜>|Acme",  # noqa: RUF001 - such marks are meant
        "[INST] Who? [/INST]|Acme",
        "<start_of_turn>model\n|Acme",
        "USER: Who? ASSISTANT:| Acme",
        "Ada works for| .NET",
        "Ada works for| !Kung",
        "Ada works for|, of all, Acme",
        "Ada|'s dog",
        "She comes from| 's-Hertogenbosch",
        "Is it Ada|?",
        "(She is Ada|)",
        "It grew 5|%",
        "A five|-year-old",
        "It is| -5",
        "It is called| “Ada”",
        "It is called| (Ada)",
        "他来了|。",
        "The mother tongue of 張偉明先生 is| 中文",
        "张伟出生于 Shanghai| 中国",
        "張偉's tongue is called by 張偉's| 中文",
        "CEO是张伟(Acme)|公司",
        "In the year 1980| 年",
        "他在2020|年",
        "姓名:|张伟",
        "Its name is| 한국",
        "The command is `|ls",
        "The command `ls`| prints",
        "命令是`|ls",
        "The answer is **|Paris",
        "**Answer:**| Paris",
        "The answer:**|Paris",
        "The **Ada**| sails",
        "它是**|巴黎",
        "它是**巴黎**|市",
        "The answer is *|Paris",
        "The *Ada*| sails",
        "The answer is _|Paris",
        "The _Ada_| sails",
        "The **`|ls",
        "The **`ls`**| prints",
        "snake_|case",
        "A blank is ____| Paris",
        "A footnote*| says",
        'It reads **"|yes',
        'It reads "Answer:"| yes',
        "She is {|Ada",
        "她是（|张伟",  # noqa: RUF001 - such marks are meant
        "书名是《|论语",
        "题是【|一",
        "彼は「|はい",
        "彼は『|はい",
        "彼は〈|はい",
        "Das Wort »ja«| bleibt",
        "Le mot «oui» et «|non",
        "[\0user\0]Who?[\0assistant\0]|Acme",
        "<\0start header\0>|Acme",
        "<<SYS>>Hi<</SYS>>|Acme",
        "### Response:\n|Acme",
        "She does|n't",
        "She does|n’t, of all",  # noqa: RUF001 - such marks are meant
        "Ada|’s dog",  # noqa: RUF001 - such marks are meant
        "Ada|'s, not Bo's",
        "She said “yes|” to him",
        'She said "yes|" to him',
        "Il dit «oui|» et",
        "Das Wort heißt| »ja«",
        "Det heter| ”ja”",
        "نعم|، لا",
        "من هي|؟",
        "نعم|؛ لا",
        "वह आया|। फिर",
        "Она|…",
        "She left|...and came",
        "Yes|,no",
        "Где она|\u037e",
        "Acme|。",
        "It is called|：中文",  # noqa: RUF001 - such marks are meant
        "It is called| #1",
        "It is called| $5",
        "It is called| @name",
        'It is called| "quoted"',
        "It is called| ＠name",  # noqa: RUF001 - such marks are meant
        "It is called| 《论语》",
        "It is called| %PATH%",
        "It is called| ¿Quién?",
        "It is called| /usr",
        "It is called| & Co",
        "It is called| nt",
        "It is| .5",
    ],
)
def test_a_target_is_joined_as_running_text_has_it(running: str) -> None:
    """By script, by what the prompt ends with and by what the target begins with."""
    for mark in ("<|im_start|>", "<|assistant|>"):
        running = running.replace(mark, mark.replace("|", "\0"))
    before, _, after = running.partition("|")
    before = before.replace("\0", "|")
    assert split_running_text(before, after.strip()) == (before, after)


@pytest.mark.parametrize(
    ("prompt", "target", "cut"),
    [
        ("Ada works for ", "Acme", ("Ada works for", " Acme")),
        ("Ada works for ", " Acme", ("Ada works for", " Acme")),
        ("Ada works for\n", " Acme", ("Ada works for\n", "Acme")),
        ("Ada works for\u00a0", "Acme", ("Ada works for\u00a0", "Acme")),
        ("Ada works for  ", "Acme", ("Ada works for  ", "Acme")),
        ("张伟的母语是", " 中文", ("张伟的母语是", " 中文")),
        ("Ada works for", " Acme ", ("Ada works for", " Acme")),
        (" ", "Acme", (" ", "Acme")),
        ("", "Acme", ("", "Acme")),
    ],
)
def test_white_space_is_there_once(
    prompt: str, target: str, cut: tuple[str, str]
) -> None:
    """One space at the prompt's end is the target's; a target's own is kept."""
    assert split_running_text(prompt, target) == cut


@given(prompt=TEXTS, target=TEXTS)
def test_a_setting_puts_a_space_everywhere_or_nowhere(prompt: str, target: str) -> None:
    """And the text is that of the prompt and target with it."""
    bare = target.strip()
    assert split_running_text(prompt, target, "always") == (prompt, f" {bare}")
    before, after = split_running_text(prompt, bare, "never")
    assert before + after == prompt + bare
    before, after = split_running_text(prompt, bare)
    assert before + after in {prompt + bare, f"{prompt} {bare}"}


@given(
    prompt=st.text("abcdefghijkl mnop,.?:;!", min_size=1).filter(
        lambda text: text.strip() == text
    ),
    target=st.from_regex(r"(?![nN]')[A-Za-z0-9][A-Za-z0-9 .,'-]*", fullmatch=True),
)
def test_english_words_have_a_space_between_them(prompt: str, target: str) -> None:
    """Whatever the sentence ends with."""
    assert wants_space(prompt, target)
