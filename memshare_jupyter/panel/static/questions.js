// What is asked before an action: it says who holds what.

class Questions {
  constructor(store) {
    this.store = store;
    Questions.made += 1;
    this.id = `ms-question-${Questions.made}`;
    this.element = h("dialog", { class: "ms-dialog", "aria-labelledby": this.id });
  }

  release(uuid) {
    const page = this.store.pages.get(uuid);
    if (!page) return;
    const name = pageName(page);
    const text = `This kernel gives up ${units(page.size)}. The name is free at once, the memory when the last view ends.`;
    this.ask(`Release ${name}?`, text, page.holders.map(holderLine), "Release", () =>
      this.store.act(`release ${name}`, { action: "release", uuid }),
    );
  }

  detach(uuid) {
    const page = this.store.pages.get(uuid);
    if (!page) return;
    const name = pageName(page);
    const text = `This kernel ends its view of ${units(page.size)}. Arrays that still use it stay valid; the view then ends with them.`;
    this.ask(`Detach ${name}?`, text, page.holders.map(holderLine), "Detach", () =>
      this.store.act(`detach ${name}`, { action: "detach", uuid }),
    );
  }

  gc(namespace) {
    const pages = [...this.store.pages.values()].filter(
      (page) => page.namespace === namespace && (page.owned || page.viewed),
    );
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
      (page) => `${pageName(page)}, ${units(page.size)}: ${who(page).join(", ")}`,
    );
    this.ask(
      `Gc namespace ${namespace}?`,
      `This kernel ${what}. Views that others have stay valid, and keep the memory.`,
      lines,
      "Gc",
      () => this.store.act(`gc ${namespace}`, { action: "gc", namespace }),
    );
  }

  /** Show what an action would do and who holds what; do it when that is confirmed. */
  ask(title, text, lines, verb, act) {
    const shown = lines.slice(0, 12);
    if (lines.length > shown.length)
      shown.push(`and ${number.format(lines.length - shown.length)} more`);
    const close = () => this.element.close();
    const confirm = h(
      "button",
      {
        class: "ms-button ms-primary",
        onclick: () => {
          close();
          if (this.store.alive) act();
        },
      },
      verb,
    );
    this.element.replaceChildren(
      h("div", { class: "ms-question", id: this.id }, title),
      h("p", {}, text),
      h("p", { class: "ms-muted" }, "Held by"),
      h("ul", {}, ...shown.map((line) => h("li", {}, line))),
      h(
        "div",
        { class: "ms-buttons" },
        h("button", { class: "ms-button", autofocus: true, onclick: close }, "Keep"),
        confirm,
      ),
    );
    this.element.showModal();
  }
}
Questions.made = 0;

function holderLine(holder) {
  return `${called(holder)}, pid ${holder.pid}: ${holder.role}${holder.here ? ", this kernel" : ""}`;
}
