"""The rules for English Penn Treebank tokens, as in Stanford's PTBLexer (CoreNLP 3.4.1).

Rewritten to give the same tokens for every string as stanfordnlp/CoreNLP PTBLexer.flex @ v3.4.1, oddities
included. Knows no caption and no file. Text is UTF-16 units, as in Java.
"""

from __future__ import annotations

from functools import cache

from evalkit.text.lexer import Lexer, Pattern, Rule, chars, either, no, span, text, words


def _listed(ranges: str) -> frozenset[str]:
    found: set[str] = set()
    for item in ranges.split():
        first, _, last = item.partition("-")
        found.update(span(chr(int(first, 16)), chr(int(last or first, 16))))
    return frozenset(found)


# --- characters --------------------------------------------------------------------------------

# Letters, digits and capitals are those of Unicode 6.2: Python's minus those added later.
_YOUNG = _listed(
    "37f 528-52f 560 588 5ef 860-86a 870-887 889-88e 8a1 8ad-8c9 978 980 9fc af9 c34 c5a c5d c80 cdd d04 "
    "d54-d56 d5f de6-def e86 e89 e8c e8e-e93 e98 ea0 ea8-ea9 eac 13f5 13f8-13fd 16f1-16f8 170d 171f 1878 "
    "191d-191e 19b0-19c0 19c8-19c9 1b4c 1c80-1c8a 1c90-1cba 1cbd-1cbf 1cf2-1cf3 1cfa 2c2f 2c5f 312e-312f "
    "31bb-31bf 4db6-4dbf 9fcd-9fff a698-a69d a78f a794-a79f a7ab-a7dc a7f2-a7f7 a8fd-a8fe a9e0-a9fe "
    "aa7e-aa7f ab30-ab5a ab5c-ab69 ab70-abbf"
)
_OLD_LETTERS = _listed("1885-1886")
_CASELESS = _listed("13a0-13f4")  # Cherokee, which had no capitals
# Marks and signs that stand for letters inside a word.
_MARKS = _listed(
    "ad 2c2-2c5 2d2-2df 2e5-2ff 300-36f 370-37d 384-385 3cf 3f6 3fc-3ff 483-487 4cf 4f6-4ff 510-525 55a-55f "
    "591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 615-61a 63b-63f 64b-65e 670 6d6-6ef 6fa-6ff 70f 711 730-74f 750-77f "
    "7a6-7b1 7ca-7f5 7fa 900-903 93c 93e-94e 951-955 962-963 981-983 9bc-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 "
    "a01-a03 a3c a3e-a4f a81-a83 abc-acf b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03 c3e-c56 d3e-d44 d46-d48 "
    "e30-e3a e47-e4e eb1-ebc ec8-ecd 237-24f"
)
_SYMBOLS = _listed(
    "a6-a9 ac ae-ba d7 f7 387 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60a 60c 614 61b 61e 66a 66d "
    "703-70d 7f6-7f8 "
    "964-965 e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 2044 207a-207f 208a-208e 2100-214f "
    "2190-2bff 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65"
) | frozenset("+%&~^|\\")
_STOPS = _listed("2e a1 bf 37e 589 61f 6d4 700-702 7fa 3002")
_MONEY = _listed("a2-a5 80 20a0 20ac 60b e3f 20a4 ffe0-ffe1 ffe5-ffe6")
_QUOTES = "`\u2018\u2019\u201a\u201b\u201c\u201d\x91\x92\x93\x94\u201e\u201f\u2039\u203a\xab\xbb"


def _is_letter(c: str) -> bool:
    return (c.isalpha() and c not in _YOUNG) or c in _OLD_LETTERS


def _is_digit(c: str) -> bool:
    return c.isdecimal() and c not in _YOUNG


def _is_capital(c: str) -> bool:
    return c.isupper() and c not in _YOUNG and c not in _CASELESS


LOWER, UPPER, NUMERALS = span("a", "z"), span("A", "Z"), span("0", "9")
AZ, CAPITAL_AZ, N09, AZ09 = (
    chars(LOWER + UPPER),
    chars(UPPER),
    chars(NUMERALS),
    chars(LOWER + UPPER + NUMERALS),
)
PURE_LETTER, DIGIT = chars(_is_letter), chars(_is_digit)
PURE = PURE_LETTER | DIGIT
BLANK = chars(" \t\xa0" + span("\u2000", "\u200a") + "\u3000")
LINE = chars("\r\n\u2028\u2029\x0b\x0c\x85") | text("\r\n")
GAP = BLANK | LINE
NBSP = chars(" \xa0")
DOT, DASH = chars("."), chars("-")
ANY = chars(lambda _: True)

ENTITY = text("&") + chars("aeiouAEIOU") + words("acute grave uml") + text(";")
LETTER = PURE_LETTER | ENTITY | chars(_MARKS.__contains__)
ALNUM = LETTER | DIGIT
APOS = chars("'\x92\u2019") | text("&apos;")
TICK = APOS | chars("`\x91\u2018\u201b")
HYPHEN = chars("-_\u058a\u2010\u2011")
SOFT = chars("\xad")
AMP = chars("&") | text("&amp;")
PAUSE = chars(",;:\u3001")
QUOT = chars('"') | text("&quot;")

# --- words -------------------------------------------------------------------------------------

_RUN = LETTER + ALNUM.star
WORD = _RUN + (chars(".!?") + _RUN).star
NOT_ENDING_IN_N = chars(LOWER + UPPER + "\xad").star + chars(LOWER + UPPER, but="nN") + SOFT.star
NT = text("n") + TICK + text("t")
CLITIC = APOS + (chars("msdMSD") | words("re ve ll"))
_BORROWED = (chars("dDoOlL") + TICK + PURE).maybe + PURE.plus
THING = _BORROWED + (HYPHEN + _BORROWED).star
AND_CO = CAPITAL_AZ.plus + ((chars("+&") | text("&amp;")) + CAPITAL_AZ.plus).plus
_COMPOUND = AZ09.plus + (DASH + AZ.plus).times(0, 2)
SLASHED = _COMPOUND + (chars("\\").maybe + text("/") + _COMPOUND).times(1, 2)

_US = (words("Canada Sino Korean EU Japan non") + text("-U.S")) | (text("U.S.-") + words("U.K U.S.S.R"))
ACRONYM = (AZ + (DOT + AZ).star) | _US
DOTTED = (AZ + (DOT + AZ).plus) | _US
HYPHENATED = (
    AZ09
    + chars(LOWER + UPPER + NUMERALS + ".,\xad").star
    + (DASH + (chars(LOWER + UPPER + NUMERALS + "\xad").plus | (DOTTED + DOT))).plus
)
APOSTROPHED = either(
    APOS + text("n") + APOS.maybe,
    chars("lLdDjJ") + APOS,
    words("Dunkin somethin ol") + APOS,
    APOS + (text("em") | text("cause") | (text("til") + text("l").maybe)),
    chars(UPPER + "n", but="IY") + TICK + PURE_LETTER.times(2, 2) + PURE_LETTER.star,
    APOS + chars("23456789") + text("0s"),
    PURE_LETTER.plus + chars("aeiouyAEIOUY") + TICK + chars("aeiou" + UPPER) + PURE_LETTER.star,
    text("cont'd") + DOT.maybe,
    words("'twas nor'easter c'mon e'er s'mores ev'ry li'l nat'l"),
    text("o") + TICK + text("o"),
)

# --- addresses ---------------------------------------------------------------------------------

_OPEN = ' \t\n\f\r"<>|'
_END = no(_OPEN + ".!?(){},-")
URL = text("http") + text("s").maybe + text("://") + no(_OPEN + "(){}").plus + _END
_HOST = no(_OPEN + ".!?(){},").plus + DOT
# A range from comma to underscore where three characters were meant: kept, so capitals and digits
# end a host name that does not begin with www.
_BARE_HOST = no(_OPEN + "`'.!?(){}$" + span(",", "_")).plus + DOT
_PATH = text("/") + no(_OPEN + "()").plus + _END
SITE = (
    (text("www.") + _HOST.plus + AZ.times(2, 4)) | (_BARE_HOST.plus + words("com net org edu"))
) + _PATH.maybe
_DOMAIN = no(_OPEN + "(){}.\xa0").plus
MAIL = (
    (text("&lt;") | text("<")).maybe
    + AZ09
    + no(_OPEN + "()\xa0{}").star
    + text("@")
    + (_DOMAIN + DOT).star
    + _DOMAIN
    + (text("&gt;") | text(">")).maybe
)
HANDLE = (text("@") + chars(LOWER + UPPER + "_") + chars(LOWER + UPPER + NUMERALS + "_").star) | (
    text("#") + LETTER.plus
)
FILE = (
    ALNUM.plus
    + (DOT + ALNUM.plus).star
    + DOT
    + words(
        "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png "
        "ppt ps py sql tar txt wav x xml zip"
    )
)

_NAME = AZ + chars(LOWER + UPPER + NUMERALS + "_:.-").star
_SPACED = text(" ").plus
_VALUE = (text("'") + no("'").star + text("'")) | (text('"') + no('"').star + text('"'))
_ATTRIBUTE = _NAME + (text(" ").star + text("=") + text(" ").star + _VALUE).maybe
TAG = (
    text("<")
    + either(
        chars("!?") + chars(LOWER + UPPER + "-") + no(">\r\n").star,
        _NAME + (_SPACED + _ATTRIBUTE).star + text(" ").star + text("/").maybe,
        text("/") + _NAME,
    )
    + text(" ").star
    + text(">")
)

# --- numbers -----------------------------------------------------------------------------------

_D12, _D14 = DIGIT.times(1, 2), DIGIT.times(1, 4)
DATE = _D12 + chars("-/") + _D12 + chars("-/") + DIGIT.times(2, 4)
NUMBER = chars("-+").maybe + (DIGIT.plus | (DIGIT.star + (chars(".:,\xad\u066b\u066c") + DIGIT.plus).plus))
SCRIPTED = chars("\u207a\u207b\u208a\u208b").maybe + (
    chars("\u2070\xb9\xb2\xb3" + span("\u2074", "\u2079")).plus | chars(span("\u2080", "\u2089")).plus
)
FRACTION = (_D14 + chars("- \xa0")).maybe + _D14 + ((chars("\\").maybe + text("/")) | chars("\u2044")) + _D14
VULGAR = chars("\xbc\xbd\xbe" + span("\u2153", "\u215e"))
DOLLARS = (CAPITAL_AZ.star + text("$")) | text("#")
_SEP = chars("- \xa0")
_N24, _PLUSES = N09.times(2, 4), (text("+") + text("+").maybe).maybe
PHONE = (
    ((text("(") + N09.times(2, 3) + text(")") + NBSP.maybe) | (_PLUSES + (_N24 + _SEP).maybe + _N24 + _SEP))
    + N09.times(3, 4)
    + _SEP.maybe
    + N09.times(3, 5)
) | ((_PLUSES + _N24 + DOT).maybe + _N24 + DOT + N09.times(3, 4) + DOT + N09.times(3, 5))

# --- abbreviations -----------------------------------------------------------------------------


def _capital(listed: str) -> Pattern:
    """Words whose first letter must have the given case; the others may have either."""
    return either(*(chars(w[0]) + text(w[1:]) for w in listed.split()))


_MONTHS_AND_DAYS = words("Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thurs Fri")
_STATES = words(
    "Ala Ariz Calif Colo Conn Ct Dak Fla Ga Ind Kan Kans Ky Md Mich Minn Mo Mont Neb Nev Okla Penn "
    "Tenn Va Vt "
    "Wis Wisc Wyo"
) | _capital("Az Ark Del Ill La Mass Miss Ore Pa Tex Wash")
_FIRMS = (
    words("Inc Co Cos Corp Ltd Plc Rt Bancorp Bhd Assn Univ Intl Sys")
    | (text("p") + text("p").maybe + text("t") + chars("ye") + text("s").maybe)
)  # fmt: skip
# Before a capital or a line end these also end a sentence, so their full stop appears twice.
ENDING = (
    either(
        _MONTHS_AND_DAYS,
        _STATES,
        _FIRMS,
        words("tel est ext sq Jr Sr Bros Ed.D Ph.D Blvd Rd Esq etc al seq Bldg"),
    )
    + DOT
)
# These never end one.
LEADING = either(
    words(
        "Mr Mrs Ms Dr Drs Prof Profs Sen Sens Rep Reps Atty Attys Lt Col Gen Messrs Gov Govs Adm Rev "
        "Maj Sgt Cpl "
        "Pvt Capt St Ste Ave Pres Lieut Hon Brig Cmdr Comdr Pfc Spc Supt Supts Det Mt Ft Adj Adv Asst "
        "Assoc Ens "
        "Insp Mlle Mme Msgr Sfc vs Alex Wm Jos Cie a.k.a cf TREAS Ph Invt Elec Natl Dept"
    ),
    _capital("Miss"),
    text("m") + chars("ft") + text("g"),
    ACRONYM,
)
BEFORE_NUMBER = words("ca fig figs prop no nos art bldg pp op") + DOT
_SENTENCE_STARTERS = _capital(
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last "
    "Many More Mr. "
    "Ms. Now Once One Other Our She Since So Some Such That The Their Then There These They This We "
    "When While "
    "What Yet You"
)
SENTENCE_END = GAP + either(GAP, chars(_is_capital), TAG)
TREEBANK = either(
    words("-RRB- -LRB- -RCB- -LCB- -RSB- -LSB- C.D.s pro- anti-"),
    text("S") + AMP + words("P-500 Ls"),
    text("Cap") + APOS + text("n"),
    text("c") + APOS + text("est"),
)

# --- marks -------------------------------------------------------------------------------------

ELLIPSIS = either(DOT.times(3, 5), (DOT + NBSP).times(2, 4) + DOT, chars("\x85\u2026"))
SMILEY = chars("<>").maybe + chars(":;=") + chars("-o*'").maybe + chars("()DPdpO\\{@|[]")
_EYE, _EYE_OR_DASH = chars("^x=~<>'"), chars("-^x=~<>'")
_FACE = chars("^x=~<>")
EASTERN_SMILEY = either(
    # An unquoted "up to" in the reference: kept.
    _FACE + text(".[^x=") + no("<").star + text("<>]"),
    _EYE_OR_DASH + text("_") + _EYE_OR_DASH,
    text("(") + _EYE_OR_DASH + chars("_.").maybe + _EYE_OR_DASH + text(")"),
    text("(") + _EYE + text("-") + chars("^x=~<>'`") + text(")"),
)

_NOT_AZ = no(LOWER + UPPER)

RULES = (
    Rule("as it is", (text("c") + text("++")) | ((text("c") | text("f")) + text("#"))),
    Rule("split three", words("cannot 'twas")),
    Rule("split two", words("'tis gonna gotta lemme gimme wanna")),
    Rule("unbroken", TAG),
    Rule("dash", (text("&") + words("md mdash ndash") + text(";")) | chars("\x96\x97\u2013\u2014\u2015")),
    Rule("ampersand", text("&amp;")),
    Rule(
        "as it is", text("&") + (words("HT TL UR LR QC QL QR odq cdq") | (text("#") + N09.plus)) + text(";")
    ),
    Rule("soft", WORD, CLITIC),
    Rule("soft", NOT_ENDING_IN_N, NT),
    Rule("soft", WORD),
    Rule("as it is", APOSTROPHED),
    Rule("as it is", text("y") + APOS, PURE_LETTER),
    Rule("as it is", URL | SITE | MAIL | HANDLE),
    Rule("quote", CLITIC, _NOT_AZ),
    Rule("quote", NT, _NOT_AZ),
    Rule("as it is", DATE),
    Rule("soft", NUMBER),
    Rule("as it is", SCRIPTED),
    Rule("unbroken", FRACTION),
    Rule("fraction", VULGAR),
    Rule("ampersand", TREEBANK),
    Rule("as it is", SLASHED | DOLLARS),
    Rule("money", chars(_MONEY.__contains__)),
    Rule("acronym", ACRONYM + DOT, GAP.plus + (_SENTENCE_STARTERS | TAG) + GAP),
    Rule("as it is", BEFORE_NUMBER, GAP.maybe + DIGIT),
    Rule("as it is", ((text("pt") + chars("eyEY")) | text("co")) + DOT, BLANK + words("ltd lim")),
    Rule("stop twice", ENDING, SENTENCE_END),
    Rule("as it is", ENDING, ANY + ANY),
    Rule("stop twice", ENDING),
    Rule("as it is", LEADING + DOT),
    Rule("as it is", LEADING, BLANK),
    Rule("as it is", ACRONYM, GAP),
    Rule("as it is", APOS + N09 + N09, GAP),
    Rule("as it is", FILE, GAP | chars(".?!,")),
    Rule("soft", WORD + DOT, PAUSE),
    Rule("phone", PHONE),
    Rule("opening quote", QUOT, chars(LOWER + UPPER + NUMERALS + "$")),
    Rule("quote", QUOT),
    Rule("nothing", chars("\x7f")),
    Rule("less", text("<") | text("&lt;")),
    Rule("greater", text(">") | text("&gt;")),
    Rule("brackets", SMILEY, no(LOWER + UPPER + NUMERALS)),
    Rule("brackets", EASTERN_SMILEY),
    Rule("any bracket", chars("{}[]()")),
    Rule("hyphens", DASH.plus),
    Rule("ellipsis", ELLIPSIS),
    Rule("as it is", text("@").plus | text("#").plus | text("_").plus),
    Rule("as it is", text("*").plus | text("\\*").times(1, 3)),
    Rule("as it is", PAUSE | chars("?!").plus | chars(_STOPS.__contains__) | chars("=/")),
    Rule("soft", HYPHENATED + DOT, PAUSE),
    Rule("soft", HYPHENATED),
    Rule("as it is", THING + DOT, PAUSE),
    Rule("as it is", THING),
    Rule("ampersand", AND_CO + DOT, PAUSE),
    Rule("ampersand", AND_CO),
    Rule("opening quote", text("'"), AZ + no(" \t\n\r\xa0")),
    Rule("quote", CLITIC | NT | APOS | text("''") | chars(_QUOTES).times(1, 2)),
    Rule("as it is", text("<<") | text(">>") | chars(_SYMBOLS.__contains__)),
    Rule("nothing", chars("\0\u200b\u200e\u200f\ufeff") | BLANK.plus),
    Rule("line", LINE),
    Rule("nothing", text("&nbsp;") | ANY),  # what no rule matches is dropped, such as emoji
)


@cache
def lexer() -> Lexer:
    """The rules as one automaton, built at first use (20 ms)."""
    return Lexer(RULES)
