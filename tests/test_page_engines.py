"""The page in Chromium, Firefox and WebKit: each test runs in all three, through the same hands."""


def test_a_message_is_sent_and_answered(hand, script, tmp_path):
    hand.say("Hi")
    assert hand.texts(".row .body") == ["Hi", "Hello there."]
    assert hand.evaluate("[innerWidth, innerHeight]") == [1280, 800]
    hand.picture(tmp_path / "a.png")
    hand.wheel(600, 400, -50)
    hand.reload()
    hand.wait("rows.children.length === 2")
