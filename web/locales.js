// Keeps this pack's translations on a page that loads the interface language over them.
//
// The page fetches what packs translate (locales/, by /i18n) when it starts, but the frontend of ComfyUI 0.3.75 then replaces
// all messages of any language but English when that language is loaded, with it what packs had added. Here ours are added
// again whenever that happens. Later frontends do so themselves; adding the same messages twice changes nothing.

import { app } from "../../scripts/app.js"

const OURS = /^foley/i
const PARTS = ["nodeDefs", "nodeCategories", "dataTypes"]

/** The page's vue-i18n, which Vue provides to all components under a symbol; undefined on a page built in another way. */
function pageTranslations() {
    const provided = document.getElementById("vue-app")?.__vue_app__?._context?.provides ?? {}
    return Object.getOwnPropertySymbols(provided)
        .map((key) => provided[key]?.global)
        .find((composer) => composer?.mergeLocaleMessage && composer.setLocaleMessage)
}

/** What is ours of the messages of all packs in one language. */
function ours(messages) {
    const named = (part) => Object.entries(messages[part] ?? {}).filter(([name]) => OURS.test(name))
    return Object.fromEntries(PARTS.map((part) => [part, Object.fromEntries(named(part))]))
}

app.registerExtension({
    name: "Foley.Locales",
    async init() {
        const translations = pageTranslations()
        const answer = translations && (await app.api.fetchApi("/i18n"))
        if (!answer?.ok) return
        const languages = await answer.json()
        const add = (language) => {
            if (languages[language]) translations.mergeLocaleMessage(language, ours(languages[language]))
        }
        const replace = translations.setLocaleMessage
        translations.setLocaleMessage = (language, messages) => {
            replace(language, messages)
            add(language)
        }
        translations.availableLocales.forEach(add)
    },
})
