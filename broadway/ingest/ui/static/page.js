// Live parts of pages. Every page works without this: it only saves reloads.

const main = document.querySelector("main[data-live]");
const offline = document.getElementById("offline");

/** Replace elements by those of the same ids, and keep what the reader has opened and focused. */
function replaceParts(html) {
  const given = document.createElement("template");
  given.innerHTML = html;
  for (const fresh of [...given.content.querySelectorAll("tr[id]"), ...given.content.children]) {
    const old = fresh.id && document.getElementById(fresh.id);
    if (old && !old.isEqualNode(fresh)) {
      swap(old, fresh);
    }
  }
}

function swap(old, fresh) {
  for (const details of fresh.querySelectorAll("details[id]")) {
    const before = document.getElementById(details.id);
    if (before) {
      details.open = before.open;
    }
  }
  for (const field of old.querySelectorAll("form [name]")) {
    const isSame = (each) => each.form?.action === field.form.action && (field.type !== "radio" || each.value === field.value);
    const after = [...fresh.querySelectorAll(`[name="${field.name}"]`)].find(isSame);
    if (after && (field.value !== field.defaultValue || field.checked !== field.defaultChecked)) {
      after.value = field.value;
      after.checked = field.checked;
    }
  }
  const focused = old.contains(document.activeElement) ? pathOf(old, document.activeElement) : null;
  const scrolled = [...old.querySelectorAll("[data-keep] [tabindex]")].map((each) => [each, each.scrollTop]);
  for (const place of fresh.querySelectorAll("[data-keep]")) {
    place.replaceWith(document.getElementById(place.id) ?? place);
  }
  old.replaceWith(fresh);
  scrolled.forEach(([element, top]) => (element.scrollTop = top));
  if (focused) {
    find(fresh, focused)?.focus({ preventScroll: true });
  }
}

/** Name an element by its id, or by its own address or that of its form. */
function pathOf(part, element) {
  return element.id ? { id: element.id } : { address: addressOf(element), tag: element.localName };
}

function addressOf(element) {
  return element.getAttribute("href") ?? element.form?.action;
}

function find(part, named) {
  if (named.id) {
    return document.getElementById(named.id);
  }
  return [...part.querySelectorAll(named.tag)].find((each) => addressOf(each) === named.address);
}

/** Follow the stream of a page while it is visible; go on where it was left. */
class Follower {
  constructor(address) {
    this.address = new URL(address, location.href);
    this.last = "";
    this.source = null;
    this.isOver = false;
  }

  begin() {
    if (this.isOver || this.source) {
      return;
    }
    if (this.last) {
      this.address.searchParams.set("since", this.last);
    }
    this.source = new EventSource(this.address);
    this.source.addEventListener("open", () => (offline.hidden = true));
    this.source.addEventListener("parts", (event) => {
      this.last = event.lastEventId;
      replaceParts(event.data);
      document.documentElement.dataset.seen = this.last;
    });
    this.source.addEventListener("end", () => {
      this.isOver = true;
      this.pause();
      document.documentElement.dataset.live = "over";
    });
    this.source.addEventListener("error", () => this.failed());
  }

  failed() {
    offline.hidden = false;
    if (this.source?.readyState === EventSource.CLOSED) {
      this.pause();
      const wait = 3000 + Math.random() * 4000; // not all watchers at once
      setTimeout(() => document.hidden || this.begin(), wait);
    }
  }

  pause() {
    this.source?.close();
    this.source = null;
  }
}

if (main && "EventSource" in window) {
  const follower = new Follower(main.dataset.live);
  document.addEventListener("visibilitychange", () => (document.hidden ? follower.pause() : follower.begin()));
  window.addEventListener("pagehide", () => follower.pause());
  window.addEventListener("pageshow", () => document.hidden || follower.begin());
  if (!document.hidden) {
    follower.begin();
  }
}

// The log of a running job, while its box is ticked: at most 2,000 lines of it. No other log is asked for.
const lines = document.getElementById("live-lines");
if (lines && "EventSource" in window) {
  const part = document.getElementById("live-log");
  const box = document.getElementById("follow");
  let log = null;
  let last = "";
  part.hidden = false;
  const follow = () => {
    log?.close();
    lines.hidden = !box.checked && !last;
    if (box.checked && !document.hidden && part.isConnected) {
      const address = new URL(part.dataset.log, location.href);
      address.searchParams.set("after", last);
      log = new EventSource(address);
      log.addEventListener("log", (event) => {
        last = event.lastEventId;
        const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
        lines.insertAdjacentHTML("beforeend", event.data);
        [...lines.children].slice(0, -2000).forEach((each) => each.remove());
        lines.scrollTop = isAtEnd ? lines.scrollHeight : lines.scrollTop;
      });
      log.addEventListener("end", () => log.close()); // the page's own stream brings the whole log
      log.addEventListener("error", () => log.readyState === EventSource.CLOSED && setTimeout(follow, 5000));
    }
  };
  box.addEventListener("change", follow);
  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", () => log?.close());
}

// A form is sent once: the button of one that is under way says so. Orders on live pages are sent without a reload.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || "again" in form.dataset || event.defaultPrevented || event.submitter?.hasAttribute("formaction")) {
    return;
  }
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  form.querySelector("button")?.setAttribute("aria-busy", "true");
  if (main?.contains(form)) {
    event.preventDefault();
    send(form);
  }
});

/** Send a form; the answer of a page that is not this one, or of a refusal, is shown as a whole. */
async function send(form) {
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const isHere = answer.ok && new URL(answer.url).pathname === location.pathname;
    const given = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (isHere) {
      replaceParts([...given.querySelectorAll("main > [id], #status-line")].map((each) => each.outerHTML).join(""));
      delete form.dataset.sent;
      form.querySelector("button")?.removeAttribute("aria-busy");
    } else if (answer.ok) {
      location.assign(answer.url);
    } else {
      main.replaceChildren(...given.querySelector("main").childNodes);
      main.focus();
    }
  } catch {
    delete form.dataset.sent;
    form.submit();
  }
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelector("button")?.removeAttribute("aria-busy");
  }
});

// An address of a test or of a line opens what holds it.
function openTarget() {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  target?.querySelectorAll("details").forEach((each) => (each.open = true));
}
window.addEventListener("hashchange", openTarget);
openTarget();
