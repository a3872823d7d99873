"""Read from the words of a refusal what the mail server blames: us, a rate, or the mailbox.

Servers use one status for different causes, so the words often say more than the status.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, TypeAlias

Blame: TypeAlias = Literal["sender", "rate", "mailbox", "nothing"]
MAX_WORDS = 4096
"""How many characters of a reply are read; long replies have some hundreds."""

# Email addresses, URLs and host names may hold any word: spam@example.net accuses nobody.
_ADDRESSES = re.compile(r"[^\s<>()\[\]\"',;:=]{1,256}@[^\s<>()\[\]\"',;]{1,256}")
_URLS = re.compile(r"\b(?:https?|mailto|ftp):\S+|\bwww\.\S+", re.IGNORECASE)
_HOSTS = re.compile(r"(?<![\w.-])(?:[a-z0-9_-]{1,63}\.){1,8}[a-z]{2,24}(?![\w-])")
# A reply of several lines that was joined to one line has its code between the words.
_CODES = re.compile(r"(?<!\S)[245][0-9]{2}(?:-|[ -]#?[245]\.[0-9]{1,3}\.[0-9]{1,3}(?!\S))")
_BLANKS = re.compile(r"[\s_]+")
_QUOTES = str.maketrans({"\u2019": "'", "`": "'", "\u00b4": "'"})

# Lists of blocked servers; some replies consist of nothing but their URL.
_LISTS = re.compile(
    r"\b(?:abuseat|abusix|backscatterer|barracudacentral|cloudmark|invaluement|mailspike|manitu"
    r"|senderbase|senderscore|sorbs|spamcop|spamhaus|surbl|talosintelligence|trustedsource"
    r"|uceprotect|uribl)\.(?:com|net|org)\b",
    re.IGNORECASE,
)

# Each line of the tables below is a regular expression, tried on the words in lower case with
# single blanks between them. These names stand for parts of expressions.
_PARTS = {
    "<not>": r"\b(?:not|never|no longer|cannot|can't|[a-z]+n't)",
    "<gap>": r"[^.;]{0,60}?",
    "<server>": r"(?:connections?|domains?|hosts?|hostname|ips?|mta|networks?|relay|servers?)",
    "<forbid>": r"(?:ban|black|block|den(?:ied|y)|forbid|prohibit|refus|reject|restrict)",
    # Not the mailbox, which a provider may have blocked.
    "<ours>": r"(?<!account )(?<!account is )(?<!mailbox )(?<!mailbox is )(?<!recipient )"
    r"(?<!recipient is )(?<!user )(?<!user is )",
    "<person>": r"\b(?:account|address(?:ee|es)?|alias|customer|destination|e-?mail"
    r"|inbox|local[- ]?part|mail ?(?:box|drop)|member|person|rcpt"
    r"|recipients?(?! (?:domain|host|mail|server))"
    r"|user ?(?:id|name)|users?)\b",
}
_SENDER = r"""
# lists, spam and reputation
(?:allow|ban|black|block|deny|reject|white)[- ]?list|<ours>\b(?:banned|blocked)\b
\b(?:dns)?rbl\b|\bdnsbl\b|\b[dpsxz]bl\b|black ?hole|banned sending
(?<!not )\blisted (?:at|by|in|on)\b
\b(?:anti-?)?spam|\bjunk\b|unsolicited|\bbulk (?:e-?)?mail|mass mail|backscatter|bounce ?deny
\babus(?:e|ive)?\b|complaint|suspicious|reputation|\b(?:bad|low|poor) trust
# content and form of the message, and policies about them
attachment|executable|infected|malware|phish|\bvirus|spoof|\bforg(?:ed|ery)\b
\bcontents? (?:\w+ ){0,3}(?:<forbid>|<not>|filter|unaccept|violat)
(?:<forbid>\w*|illegal|unacceptable) (?:\w+ ){0,2}(?:content|header)
\b(?:rfcs?|rfc ?[0-9]+) (?:compliant|violation)|protocol violation|detected that (?:this|your)
\bheaders? (?:error|(?:is|are) (?:<not>|missing))|multiple addresses
\bpolic(?:y|ies)\b|administrative(?:ly)? <forbid>|organi[sz]ational settings
\b(?:e-?mail|mail|message|submission)s?(?: been| being| has| have| is| was)* (?:blocked|filtered)
\b(?:delivery|e-?mail|mail|message|submission)s?(?: been| has| have| is| was)* <forbid>
\b(?:delivery|e-?mail|mail|message|submission)s?(?: is| was)* (?:not |un)authorized
<forbid>\w* (?:that |the |this |your )?(?:e-?mail|mail|message)s?\b
# authentication, and the names and addresses of the sending server
\b(?:arc|batv|dkim|dmarc|spf)\b|sender policy framework|sender ?-?id\b|\bauthenti
\b(?:encrypt\w*|starttls|tls) (?:is |was )?(?:mandatory|needed|required)
\b(?:client|connecting|delivering|originating|sending|source|your) (?:\w+ ){0,2}?<server>\b
(?<!exchanger or )\bip(?:v[46])? (?:address(?:es)?|block|name|profile|range|space)\b
(?<!destination )(?<!recipient )(?<!remote )\b<server>\b<gap>\b(?:are|been|is|was) (?:\w+ )?<forbid>
(?<!destination )(?<!recipient )(?<!remote )\b<server>\b<gap><not> (?:allow|authori|permit)
\bdynamic (?:host|ip)|\bhelo\b(?! handshake)|\behlo\b
open (?:proxy|relay)|\byour (?:internet service|isp)\b
reverse[- ]?(?:dns|host|look-?up|name|path)|\b(?:fcrdns|ptr|rdns)\b|forward dns
(?:cannot|can't) (?:find|resolve) (?:the |your )(?:reverse )?host
# the sender's address, and who may send
\bsenders?\b(?:[ :]+(?!recip|user|mailbox)[a-z']+){0,4}?[ :]+(?:<forbid>|<not>)
\bsenders?\b(?:[ :]+(?!recip|user|mailbox)[a-z']+){0,4}?[ :]+(?:fail|invalid|empty|unknown|veri)
\bsenders?\b(?:[ :]+(?!recip|user|mailbox)[a-z']+){0,4}?[ :]+un(?:auth|resolv|rout|veri)
\b(?:bad|bogus|empty|forged|invalid|missing|null|outbound|un\w+|valid|wrong) (?:\w+ )?senders?\b
<forbid>\w* senders?\b|\b(?:invalid|missing) (?:from\b|mail from|return[- ]path)
\bdomain of (?:the )?sender\b|\bsender domain\b|\bmail from:? (?:\S+ ){0,3}(?:<forbid>|<not>)
# RFC 5321 §3.3: at MAIL the server does not know the recipient yet.
\b(?:after|in reply to|in response to) (?:pipelined )?(?:initial connection|mail from)\b
<not> (?:allow|authori[sz]|permit)(?:ed)? (?:\w+ ){0,3}?(?:connect|deliver|post|relay|send|submit)
\byou (?:are|have|were) (?:\w+ ){0,2}(?:<forbid>|allow|authori|permi)
\b(?:access|connections?|e-?mails?|mail|messages?|traffic) (?:\w+ )?from\b<gap>(?:<forbid>|<not>)
\b(?:connections?|e-?mails?|mail|messages?|traffic) <not> accepted (?:by|for|from)\b
\b(?:messages?|e-?mails?) (?:\w+ )?from\b<gap>\bdeferred
<not> (?:\w+ )?accept\w* (?:any |your )?(?:e-?mails?|mail|messages?|smtp|traffic) (?:\w+ )?from\b
<forbid>\w* (?:any |to accept )*(?:connections?|e-?mails?|mail|messages?|traffic) (?:\w+ )?from\b
\baccept\w* (?:mail|messages) (?:only )?from (?:certain|known|members|people|senders|users)
closed mailing list|members?[- ]only|not subscribed|\bgo away\b|service refused?\b|no access from
service (?:is )?(?:not available|unavailable)[^.]{0,20}\bclient
# relaying, which the relay denies to us
\brelay\w*(?: \w+){0,2} (?:<forbid>|<not>|disallow)|\bno relaying|\brelaying (?:mail|to)
(?:<not>|unable|allowed|configured|permitted) (?:to )?relay|insecure mail relay|as a relay
\bnot a gateway|\brcpt ?hosts?\b
# our own rate and volume
too many (?:\w+ ){0,2}(?:commands|connections|errors|recipients|sessions|spams?)\b
\b(?:unexpected|unusual) (?:amount|rate|traffic|volume)
\b(?:connection|outbound|sender'?s?|sending|your) (?:\w+ ){0,2}(?:limit|quota|rate|volume)\b
(?:frequency|limit|quota|rate|throttl)<gap>\b(?:client|host|ip|sender|sending|your)\b
# other languages
\babsender|\brichtlinie|\bsperrliste|afzender|emetteur|exp[ée]diteur|mittente|remetente|remitente
отправител|спам|发件人|垃圾|送信者
"""
_RATE = r"""
\brate[- ](?:control|exceed|limit)|\bat a rate\b|\brate (?:has|is|of|that|which)\b
\bthrottl|too (?:fast|frequent|often|quickly)|\bslow(?:er| down)|gr[ae]y-?list
too (?:many|much) (?:\w+ )?(?:deliveries|e-?mails?|messages|requests)\b(?! (?:data|in|on|stored)\b)
excessive (?:number|rate|traffic|volume)|short (?:amount of time|period|time)
(?:exceed|reached)<gap>(?:daily|hourly|per (?:day|hour|minute|second))
\b(?:daily|hourly|per[- ](?:hour|minute)) (?:\w+ ){0,2}(?:limit|maximum|quota)
try again (?:later|slower)|temporar(?:ily|y) (?:defer|limit)
trop de (?:courriels|messages)|zu viele (?:e-?mails|mails|nachrichten)
"""
_MAILBOX = r"""
\b(?:any|bad|incorrect|illegal|invalid|no|non-?existent|not an?|unknown) (?:\w+ ){0,3}?<person>
\b(?:closed|deactivated|disabled|full|inactive|suspended|undeliverable|unrout\w+) <person>
<person><gap><not> (?:accept|active|available|be found|exist|found|have|here|in use|known|a known)
<person><gap><not> (?:a valid|listed|local|ok|present|recogni|valid)|<person><gap>\bnot an active
<person><gap>\b(?:blocked|closed|deactivated|deleted|disabled|discontinued|exceed|expired|frozen)
<person><gap>\b(?:full|inactive|incorrect|invalid|locked|misspel|moved|no longer|non-?existent)
<person><gap>\b(?:suspend|terminated|unava\w+ble|undeliverable|unknown|unrout|wrong)
<person> (?:refus|reject)|can't accept <person>
\b(?:any|no) ?(?:body|one) (?:at th|by th|here|there|with th)|no such (?:domain|name|person)
(?:address|recip\w*|user) ?(?:not ?found|unknown)|unknown ?user|(?:bad|valid)(?:rcpt|recipient)to\b
\b(?:do|does) not exist|\b(?:do|does)n't (?:exist|have an?\b)|\bnot (?:a|our) (?:customer|user)\b
<person>(?: been| has| is| not| was| were)* (?:accepted|denied|refused|rejected)
no longer (?:accept|active|available|employed|in use|valid|with|works)|left the (?:compan|organi)
\b(?:been|currently|is) suspended\b|\btemporar(?:ily|y) locked\b
# a full mailbox
quota\b|mailbox ?full|folder is full|(?:disk|enough|no|storage) ?space|storage allocation
insufficient (?:\w+ )?storage|(?:out of|used) space|space (?:has been|is)? ?(?:left|used|full)
too (?:many|much) (?:mail )?(?:data|messages)
# other languages
(?:adresse|benutzer|empf[äa]nger|konto|postfach)\w*<gap>(?:deaktiviert|existiert|gesperrt|nicht)
(?:adresse|benutzer|empf[äa]nger|konto|postfach)\w*<gap>(?:unbekannt|ung[üu]ltig|voll)
(?:adresse|bo[iî]te|compte|destinataire|utilisateur)<gap>(?:d[ée]sactiv|ferm|inconnu|inexist)
(?:adresse|bo[iî]te|compte|destinataire|utilisateur)<gap>(?:invalide|n'existe|plein|archiv)
(?:buz[óo]n|cuenta|destinatario|direcci[óo]n|usuario)<gap>(?:desconocid|inv[áa]lid|llen|no )
(?:casella|indirizzo|utente)<gap>(?:inesistent|non |pien|sconosciut)|nessun utente|\bno existe\b
(?:caixa|utilizador|usu[áa]rio)<gap>(?:cheia|desconhecid|n[ãa]o exist)|nie (?:istnieje|ma takiego)
onbekend|не существует|ящик\w* не|пользовател\w+ не|不存在|存在しません|宛先不明
"""


@cache
def _compile(table: str) -> re.Pattern[str]:
    """Return one expression for all lines of a table except comments.

    This takes some time, and most commands need none of them.
    """
    for name, part in _PARTS.items():
        table = table.replace(name, part)
    lines = (line for line in table.splitlines() if line and not line.startswith("#"))
    return re.compile("|".join(lines))


_TABLES: tuple[tuple[Blame, str], ...] = (
    ("sender", _SENDER),
    ("rate", _RATE),
    ("mailbox", _MAILBOX),
)


def read_blame(text: str) -> Blame:
    """Return what the words of a server's reply or of a bounce report blame for the refusal.

    `sender` is our side: our server, address, authentication, volume or content, or that we may
    not send or relay. `rate` is a limit of unstated cause, or that of a mailbox which receives too
    much at once. `mailbox` means that the mailbox does not exist or takes no email. If the words
    blame several, the first of these counts.
    """
    text = text[:MAX_WORDS]
    if _LISTS.search(text):
        return "sender"
    words = _plain_words(text)
    return next((blame for blame, table in _TABLES if _compile(table).search(words)), "nothing")


def _plain_words(text: str) -> str:
    """Return the words of a reply in lower case, without addresses, URLs, host names and codes."""
    for pattern in (_ADDRESSES, _URLS, _HOSTS, _CODES):
        text = pattern.sub(" ", text)
    return _BLANKS.sub(" ", text.translate(_QUOTES)).casefold()
