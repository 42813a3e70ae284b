// What is asked before an action: it says who holds what.

class Questions {
  constructor(store) {
    this.store = store;
    Questions.made += 1;
    this.id = `ms-question-${store.me}-${Questions.made}`;
    this.element = h("dialog", { class: "ms-dialog", "aria-labelledby": this.id });
  }

  release(page) {
    const name = pageName(page);
    const text = `This kernel gives up ${units(page.size)}. The name is free at once, the memory when the last view ends.`;
    this.askOfPage(page, `Release ${name}`, text, "release");
  }

  detach(page) {
    const name = pageName(page);
    const text = `This kernel ends its view of ${units(page.size)}. Arrays that still use it stay valid; the view then ends with them.`;
    this.askOfPage(page, `Detach ${name}`, text, "detach");
  }

  askOfPage(page, what, text, action) {
    if (!this.store.pages.has(page.uuid))
      return this.store.say(`${pageName(page)} is gone already`, true);
    const verb = what.split(" ")[0];
    this.ask(what, text, page.holders.map(holderLine), verb, { action, page: identity(page) });
  }

  gc(namespace) {
    const pages = [...this.store.pages.values()]
      .filter((page) => page.namespace === namespace && (page.owned || page.viewed))
      .sort((a, b) => compare(inOrder(a.variable), inOrder(b.variable)));
    const owned = pages.filter((page) => page.owned);
    const views = pages.filter((page) => page.viewed);
    const bytes = owned.reduce((sum, page) => sum + page.size, 0);
    const what = [
      owned.length ? `releases ${count(owned.length, "page")} (${units(bytes)})` : "",
      views.length ? `detaches ${count(views.length, "view")}` : "",
    ]
      .filter(Boolean)
      .join(" and ");
    const who = (page) => chipsOf(page).map((chip) => chip.text + (chip.owner ? " (owner)" : ""));
    const lines = pages.map(
      (page) => `${page.variable}, ${units(page.size)}: ${who(page).join(", ")}`,
    );
    this.ask(
      `Release all of ${namespace}`,
      `This kernel ${what}. Views that others have stay valid, and keep the memory.`,
      lines,
      "Release all",
      { action: "gc", namespace, pages: pages.map(identity) },
    );
  }

  /** Close what is asked of a kernel that is gone. */
  withdraw() {
    if (!this.element.open) return;
    this.element.close();
    this.store.say(`${this.what}: not done, the kernel is gone`, true);
  }

  /** Show what an action would do and who holds what; do it when that is confirmed. */
  ask(what, text, lines, verb, action) {
    this.what = what[0].toLowerCase() + what.slice(1);
    const shown = lines.slice(0, 12);
    if (lines.length > shown.length)
      shown.push(`and ${number.format(lines.length - shown.length)} more`);
    const close = () => this.element.close();
    const confirmed = () => {
      close();
      this.store.act(this.what, action);
    };
    this.element.replaceChildren(
      h("div", { class: "ms-question", id: this.id }, `${what}?`),
      h("p", {}, text),
      h("p", { class: "ms-muted" }, "Held by"),
      h("ul", {}, ...shown.map((line) => h("li", {}, line))),
      h(
        "div",
        { class: "ms-buttons" },
        h("button", { class: "ms-button", autofocus: true, onclick: close }, "Keep"),
        h("button", { class: "ms-button ms-confirm", onclick: confirmed }, verb),
      ),
    );
    this.element.showModal();
  }
}
Questions.made = 0;

/** Tell a page from one that replaces it, under the same name or in the same memory. */
function identity(page) {
  return [page.uuid, page.created];
}

function holderLine(holder) {
  return `${called(holder)}, pid ${holder.pid}: ${holder.role}${holder.here ? ", this kernel" : ""}`;
}
