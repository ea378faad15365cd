"""Codes of languages, brought to one form: ISO 639-1's two letters where the language has them, else ISO 639-3's three.

Left out are region and script ("zh-CN", "sr-Latn"). One code stands for what data sets write in several ways: codes
that were withdrawn ("iw" is "he"), ISO 639-2's and 639-3's three letters ("ger" and "deu" are "de"), the single
languages of a macrolanguage that has the two letters ("nb" and "nn" are "no", "arz" is "ar"), and "tl", which
Unicode's CLDR, mT5 and Crossmodal-3600 call "fil".
"""

import re

UNKNOWN = "und"
_SHAPE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{1,8})*")

# three letters → two: ISO 639-2, its bibliographic codes beside the others
_THREE = """
aar aa abk ab afr af aka ak amh am ara ar arg an asm as ava av ave ae aym ay aze az bak ba bam bm bel be ben bn bis bi
bod bo tib bo bos bs bre br bul bg cat ca ces cs cze cs cha ch che ce chu cu chv cv cor kw cos co cre cr cym cy wel cy
dan da deu de ger de div dv dzo dz ell el gre el eng en epo eo est et eus eu baq eu ewe ee fao fo fas fa per fa fij fj
fin fi fra fr fre fr fry fy ful ff gla gd gle ga glg gl glv gv grn gn guj gu hat ht hau ha heb he her hz hin hi hmo ho
hrv hr hun hu hye hy arm hy ibo ig ido io iii ii iku iu ile ie ina ia ind id ipk ik isl is ice is ita it jav jv jpn ja
kal kl kan kn kas ks kat ka geo ka kau kr kaz kk khm km kik ki kin rw kir ky kom kv kon kg kor ko kua kj kur ku lao lo
lat la lav lv lim li lin ln lit lt ltz lb lub lu lug lg mah mh mal ml mar mr mkd mk mac mk mlg mg mlt mt mon mn mri mi
mao mi msa ms may ms mya my bur my nau na nav nv nbl nr nde nd ndo ng nep ne nld nl dut nl nor no nya ny oci oc oji oj
ori or orm om oss os pan pa pli pi pol pl por pt pus ps que qu roh rm ron ro rum ro run rn rus ru sag sg san sa sin si
slk sk slo sk slv sl sme se smo sm sna sn snd sd som so sot st spa es sqi sq alb sq srd sc srp sr ssw ss sun su swa sw
swe sv tah ty tam ta tat tt tel te tgk tg tha th tir ti ton to tsn tn tso ts tuk tk tur tr twi tw uig ug ukr uk urd ur
uzb uz ven ve vie vi vol vo wln wa wol wo xho xh yid yi yor yo zha za zho zh chi zh zul zu
"""
# what else has two letters
_OTHERS = """
iw he in id ji yi jw jv mo ro sh sr scc sr scr hr tl fil tgl fil
nb no nob no nn no nno no arb ar arz ar ary ar apc ar cmn zh azj az azb az ckb ku kmr ku ekk et khk mn lvs lv
npi ne ory or pes fa prs fa plt mg pnb pa pbt ps als sq swh sw uzn uz ydd yi zsm ms gug gn gaz om
"""
# what says that no language is known
_NONE = {"und", "unk", "mis", "mul", "zxx", "xx", "nan"}
_SAME = {
    **dict(zip(_THREE.split()[::2], _THREE.split()[1::2], strict=True)),
    **dict(zip(_OTHERS.split()[::2], _OTHERS.split()[1::2], strict=True)),
}


def normalise(code: str) -> str:
    """``"iw"``, ``"zh_TW"``, ``"eng"`` → ``"he"``, ``"zh"``, ``"en"``; ``"und"`` where it is no language's code."""
    code = code.strip().lower()
    if not _SHAPE.fullmatch(code):
        return UNKNOWN
    language = re.split("[-_]", code)[0]
    return UNKNOWN if language in _NONE else _SAME.get(language, language)
