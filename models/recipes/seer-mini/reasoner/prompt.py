"""The prompt: chat template, short instructions, and the string a host renders from them.

Written next to the weights as chat_template.jinja and prompt.toml; `render` is what the template
must give for one user turn, and a test in `fixture.py` holds the two together.
"""
from model import SPECIAL_TOKENS

SYSTEM = "Ground the order in the scan."
USER = "Views run foot to head."
USER_WITH_SKILLS = "Views run foot to head. Use a skill that fits."

# Qwen3-VL's turn format, in our own words: a message is a string or a list of parts, an image part
# becomes one group of start, pad and end token, and the host repeats the pad once per image token.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'text' %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def prompt_toml():
    return (f'system = "{SYSTEM}"\nuser = "{USER}"\nuser_with_skills = "{USER_WITH_SKILLS}"\nletter_case = "lower"\n')


def user_text(order, skills=None):
    """The text after the images: instruction, skill blocks if any, and the order, both in lower case.

    "Jaw bone", "JAW BONE" and "jaw bone" are other tokens, of which a small model knew the last alone.
    """
    head = f"{USER_WITH_SKILLS}\n\n<skill_bank>\n{skills.lower()}\n</skill_bank>" if skills else USER
    return f"{head}\n\n<raw_prompt>{without_special_tokens(order.lower())}</raw_prompt>"


def without_special_tokens(order):
    """Takes special-token names out of an order, so that free text cannot open a turn of its own."""
    for token in SPECIAL_TOKENS:
        order = order.replace(token, " ")
    return order


def messages(order, images, skills=None):
    return [{"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "image"}] * images
             + [{"type": "text", "text": user_text(order, skills)}]}]


def render(order, tokens_per_image, skills=None):
    """The prompt string; tokens_per_image lists the image tokens of each view."""
    views = "".join(f"<|vision_start|>{'<|image_pad|>' * n}<|vision_end|>" for n in tokens_per_image)
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{views}"
            f"{user_text(order, skills)}<|im_end|>\n<|im_start|>assistant\n")
